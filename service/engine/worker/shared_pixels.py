"""Pixels on their way to a worker process: memory that both sides map, one batch at a time."""

from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


class SharedPixels:
    """A segment of shared memory that holds one batch of any images that fit.

    The engine creates it, the worker attaches, and then the engine unlinks the name: the memory lives as long as a
    process maps it, so that no death of either can leave it behind.
    """

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._linked = True

    @classmethod
    def create(cls, nbytes: int) -> "SharedPixels":
        """New memory, owned by the caller."""
        return cls(SharedMemory(create=True, size=nbytes))

    @classmethod
    def attach(cls, name: str) -> "SharedPixels":
        """The memory of that name."""
        return cls(SharedMemory(name))

    @property
    def name(self) -> str:
        """The name under which another process finds it, until `unlink`."""
        return self._memory.name

    @property
    def nbytes(self) -> int:
        """Its size; the system may round up."""
        return self._memory.size

    def write(self, images: Sequence[UInt8[Tensor, "3 h w"]]) -> None:
        """Put a batch of images of one size at the beginning."""
        torch.stack(list(images), out=self.read((len(images), *images[0].shape)))

    def read(self, shape: tuple[int, ...]) -> UInt8[Tensor, "n 3 h w"]:
        """The batch of that shape, not copied."""
        return torch.from_numpy(np.ndarray(shape, np.uint8, buffer=self._memory.buf))

    def unlink(self) -> None:
        """Free the name; a second call does nothing."""
        if self._linked:
            self._linked = False
            self._memory.unlink()

    def close(self) -> None:
        """Unmap it; no tensor of `read` may be left."""
        self._memory.close()
