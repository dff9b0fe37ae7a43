"""Pixels on their way to a worker process: slots of one batch each in memory that both sides map."""

from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

Shape = tuple[int, ...]


class SharedPixels:
    """An array (slots, capacity, 3, h, w) of uint8.

    The engine creates it, the worker attaches, and then the engine unlinks the name at once: the memory lives as long
    as somebody maps it, so that no death of either process can leave it behind.
    """

    def __init__(self, memory: SharedMemory, shape: Shape) -> None:
        self.shape = shape
        self._memory = memory
        self._pixels = np.ndarray(shape, np.uint8, buffer=memory.buf)

    @classmethod
    def create(cls, shape: Shape) -> "SharedPixels":
        """New memory, owned by the caller."""
        return cls(SharedMemory(create=True, size=int(np.prod(shape))), shape)

    @classmethod
    def attach(cls, name: str, shape: Shape) -> "SharedPixels":
        """The memory of that name."""
        return cls(SharedMemory(name), shape)

    @property
    def name(self) -> str:
        """Under which another process finds it, until `unlink`."""
        return self._memory.name

    def write(self, slot: int, images: Sequence[UInt8[Tensor, "3 h w"]]) -> None:
        """Put a batch into a slot."""
        for row, image in enumerate(images):
            self._pixels[slot, row] = image.numpy()

    def read(self, slot: int, count: int) -> UInt8[Tensor, "n 3 h w"]:
        """The first images of a slot, not copied."""
        return torch.from_numpy(self._pixels[slot, :count])

    def unlink(self) -> None:
        """Free the name."""
        self._memory.unlink()

    def close(self) -> None:
        """Unmap it."""
        del self._pixels
        self._memory.close()
