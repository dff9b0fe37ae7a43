"""How much memory a record of tensors takes."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np
from torch import Tensor

STRING_BYTES: Final = 50  # of a str object beside its characters
OTHER_BYTES: Final = 8  # of numbers and the like


def bytes_of(value: Any) -> int:
    """The bytes of all tensors, arrays and strings below a value; what is reachable twice counts once."""
    return _bytes_of(value, set())


def _bytes_of(value: Any, seen: set[int]) -> int:
    if isinstance(value, str):
        return len(value) + STRING_BYTES
    identity = value.untyped_storage().data_ptr() if isinstance(value, Tensor) else id(value)
    if identity in seen:
        return 0
    seen.add(identity)
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, np.ndarray):
        return value.nbytes
    parts = _parts(value)
    return OTHER_BYTES if parts is None else sum(_bytes_of(part, seen) for part in parts)


def _parts(value: Any) -> list[Any] | None:
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, each.name) for each in fields(value)]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else None
