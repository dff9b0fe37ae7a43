"""Hands out blocks of the memory for pixels, each for one image."""

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Final

from jaxtyping import UInt8
from torch import Tensor

from service.engine.decoding.memory import PixelMemory
from vlm_ood.errors import ImageError

ALIGNMENT: Final = 64  # of a cache line

Span = tuple[int, int]  # first byte, and the first behind it


class Block:
    """Room for the pixels of one image; free again when all who hold it have released it. Its maker holds it.

    Args:
        memory: it lies in.
        offset: where in it.
        shape: (3, h, w) of the pixels.
        free: called once.
    """

    def __init__(self, memory: PixelMemory, offset: int, shape: tuple[int, ...], free: Callable[[], None]) -> None:
        self._memory, self.offset, self.shape, self._free = memory, offset, shape, free
        self._holders = 1

    def pixels(self) -> UInt8[Tensor, "3 h w"]:
        """What lies in it, not copied."""
        return self._memory.view(self.offset, self.shape)

    def hold(self) -> bool:
        """Hold it too; False when it is free already, so that nobody cares what lies in it."""
        if not self._holders:
            return False
        self._holders += 1
        return True

    def release(self) -> None:
        """Hold it no longer."""
        self._holders -= 1
        if not self._holders:
            self._free()


@contextmanager
def held(blocks: Sequence[Block]) -> Iterator[None]:
    """Hold the blocks in the context; one that is free already stays so."""
    ours = [block for block in blocks if block.hold()]
    try:
        yield
    finally:
        for block in ours:
            block.release()


class PixelArena:
    """The free spans of the memory, first fit; used on one event loop.

    Attributes:
        on_free: called when a block is free again.
    """

    def __init__(self, memory: PixelMemory) -> None:
        self._memory = memory
        self._holes: list[Span] = [(0, memory.nbytes)]
        self.on_free: Callable[[], object] = lambda: None

    @property
    def free_bytes(self) -> int:
        """In all holes together."""
        return sum(end - start for start, end in self._holes)

    def require(self, shape: tuple[int, ...]) -> None:
        """Check that all of the memory would hold a block.

        Raises:
            ImageError: it is more than there is in all.
        """
        if _nbytes(shape) > self._memory.nbytes:
            raise ImageError(
                f"the encoder's input takes {prod(shape):,} bytes, the memory for pixels has {self._memory.nbytes:,}: "
                "ask for a smaller size, or raise pixel_bytes (VLM_OOD_PIXEL_BYTES)"
            )

    def allocate(self, shape: tuple[int, ...]) -> Block | None:
        """A block; None while there is no room for it."""
        nbytes = _nbytes(shape)
        offset = self._take(nbytes)
        return None if offset is None else Block(self._memory, offset, shape, lambda: self._give_back(offset, nbytes))

    def _take(self, nbytes: int) -> int | None:
        for row, (start, end) in enumerate(self._holes):
            if end - start >= nbytes:
                self._holes[row : row + 1] = [(start + nbytes, end)] if end - start > nbytes else []
                return start
        return None

    def _give_back(self, start: int, nbytes: int) -> None:
        insort(self._holes, (start, start + nbytes))
        row = self._holes.index((start, start + nbytes))
        for left in (row, row - 1):  # join it with the hole behind, then with the one before
            if 0 <= left < len(self._holes) - 1 and self._holes[left][1] == self._holes[left + 1][0]:
                self._holes[left : left + 2] = [(self._holes[left][0], self._holes[left + 1][1])]
        self.on_free()


def _nbytes(shape: tuple[int, ...]) -> int:
    return -(-prod(shape) // ALIGNMENT) * ALIGNMENT
