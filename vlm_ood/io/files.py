"""Atomic writes of files, and reading safetensors files."""

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vlm_ood.errors import StorageError


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically: on failure, an older file of that name stays as it was.

    Raises:
        StorageError: the file can't be written; the message has the path and the reason.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(kept, dict(metadata or {})))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: on failure, an older file of that name stays as it was.

    Raises:
        StorageError: the file can't be written; the message has the path and the reason.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".partial-", delete=False) as file:
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
