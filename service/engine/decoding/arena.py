"""Hands out blocks of the memory for pixels, each for one image; who finds none free waits in order."""

import asyncio
from bisect import insort
from collections import deque
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
    """The free spans of the memory, first fit; used on one event loop."""

    def __init__(self, memory: PixelMemory) -> None:
        self._memory = memory
        self._holes: list[Span] = [(0, memory.nbytes)]
        self._waiting: deque[tuple[int, asyncio.Future[int]]] = deque()

    @property
    def free_bytes(self) -> int:
        """In all holes together."""
        return sum(end - start for start, end in self._holes)

    async def allocate(self, shape: tuple[int, ...]) -> Block:
        """A block; waits for one, behind those who wait already.

        Raises:
            ImageError: it is more than there is in all.
        """
        nbytes = -(-prod(shape) // ALIGNMENT) * ALIGNMENT
        if nbytes > self._memory.nbytes:
            raise ImageError(
                f"the encoder's input takes {prod(shape):,} bytes, the memory for pixels has {self._memory.nbytes:,}: "
                "ask for a smaller size, or raise pixel_bytes (VLM_OOD_PIXEL_BYTES)"
            )
        offset = None if self._waiting else self._take(nbytes)
        if offset is None:
            offset = await self._wait(nbytes)
        start = offset
        return Block(self._memory, start, shape, lambda: self._give_back(start, nbytes))

    async def _wait(self, nbytes: int) -> int:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._give_back(waiter.result(), nbytes)
            self._serve()  # who waits behind may need less
            raise

    def _serve(self) -> None:
        while self._waiting:
            nbytes, waiter = self._waiting[0]
            if not waiter.done():
                offset = self._take(nbytes)
                if offset is None:
                    return
                waiter.set_result(offset)
            self._waiting.popleft()

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
        self._serve()
