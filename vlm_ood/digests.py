"""SHA-256 digests of plain values, bytes and tensors; equal content has an equal digest on every machine."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Plain = None | bool | int | float | str | list[Any] | tuple[Any, ...] | dict[str, Any]


def digest_of(*parts: Plain | bytes | Tensor) -> str:
    """Compute one SHA-256 over the parts, in order.

    Args:
        parts: plain values (hashed as canonical JSON), bytes, or tensors (hashed as dtype, shape and bytes).

    Returns:
        64 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for part in parts:
        content = _content(part)
        sha.update(len(content).to_bytes(8, "little"))
        sha.update(content)
    return sha.hexdigest()


def _content(part: Plain | bytes | Tensor) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, Tensor):
        array = part.detach().cpu().contiguous()
        head = f"{array.dtype} {tuple(array.shape)} ".encode()
        return head + array.flatten().view(torch.uint8).numpy().tobytes()
    return json.dumps(part, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def digest_of_weights(state: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> str:
    """Compute one SHA-256 over names, dtypes, shapes and values; the order of the names doesn't matter.

    Returns:
        64 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(dict(state).items()):
        sha.update(name.encode() + b"\0" + _content(tensor))
    return sha.hexdigest()
