"""Atomic writes of files, and reading safetensors files."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save
from torch import Tensor

from vlm_ood.errors import StorageError

DTYPES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
        "I64": torch.int64,
    }
)
"""What `tensors_from_bytes` reads, under the names that safetensors has for it."""

PARTIAL: Final = ".partial-"  # how the names of files begin that are being written

MAX_AXES: Final = 8  # of a tensor from bytes; features have three


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically: on failure, an older file of that name stays as it was.

    Raises:
        StorageError: the file can't be written; the message has the path and the reason.
    """
    write_bytes(path, tensors_to_bytes(tensors, metadata))


def tensors_to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file in memory."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata or {}))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: on failure, an older file of that name stays as it was.

    Raises:
        StorageError: the file can't be written; the message has the path and the reason.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=PARTIAL, delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StorageError(
            f"{target} can't be written: {error.strerror or error}; free some space or choose another folder"
        ) from error


@cache
def _umask() -> int:
    """Return the umask of the process. It can only be read by setting it, which is not thread-safe: done once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it is not a safetensors file, or a damaged one.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise StorageError(f"{path} is not a readable safetensors file: {error}") from error


# The package has no types.
_views: Final[Callable[[bytes], list[tuple[str, dict[str, Any]]]]] = deserialize


def tensors_from_bytes(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file in memory; the content may come from anyone.

    Raises:
        StorageError: not a safetensors file, a damaged one, or a tensor that is empty, of another dtype than `DTYPES`
            or of more than `MAX_AXES` axes.
    """
    try:
        views = _views(content)
    except SafetensorError as error:
        raise StorageError(f"not a readable safetensors file: {error}") from error
    for name, view in views:
        if view["dtype"] not in DTYPES:
            raise StorageError(f"tensor {name[:100]!r} is of type {view['dtype']}: give one of {', '.join(DTYPES)}")
        if not view["data"] or len(view["shape"]) > MAX_AXES:
            raise StorageError(f"tensor {name[:100]!r} is empty or has more than {MAX_AXES} axes: leave it out")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    named = {name: _tensor(**view) for name, view in views}  # in an order that changes from process to process
    return dict(sorted(named.items())), header.get("__metadata__") or {}


def _tensor(dtype: str, shape: list[int], data: bytearray) -> Tensor:
    return torch.frombuffer(data, dtype=DTYPES[dtype]).reshape(shape)
