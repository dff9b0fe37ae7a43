"""Pictures that wait for a decoder: tenants take turns by the seconds that their pictures take the decoders."""

import asyncio
from collections import Counter
from itertools import chain

from service.engine.decoding.arena import Block, PixelArena
from service.engine.decoding.base import Picture


class Line:
    """The next is a picture of the tenant that holds the fewest decoders, then of the one that has used them least.

    A picture is chosen when a decoder and its memory are free: no tenant holds one while it waits for the other.

    Args:
        arena: of the memory for pixels.
    """

    def __init__(self, arena: PixelArena) -> None:
        self._arena = arena
        self._waiting: dict[str, dict[Picture, None]] = {}  # of each tenant, in the order of arrival
        self._decoding: Counter[str] = Counter()
        self._served_s: dict[str, float] = {}  # of each tenant, on the clock below
        self._clock_s = 0.0  # who comes back starts from here: time without pictures gives no claim
        self._changed = asyncio.Event()
        arena.on_free = self._changed.set

    def put(self, picture: Picture) -> None:
        """Append a picture."""
        self._waiting.setdefault(picture.tenant, {})[picture] = None
        self._served_s[picture.tenant] = max(self._served_s.get(picture.tenant, 0.0), self._clock_s)
        self._changed.set()

    def remove(self, picture: Picture) -> None:
        """Let a picture wait no longer, if it does."""
        own = self._waiting.get(picture.tenant, {})
        own.pop(picture, None)
        if not own:
            self._waiting.pop(picture.tenant, None)
        self._changed.set()  # the next may need less memory

    async def next(self) -> tuple[Picture, Block]:
        """Wait for the next picture and the block for its pixels; `done` is called when its decoder is free again."""
        while (taken := self._take()) is None:
            self._changed.clear()
            await self._changed.wait()
        return taken

    def done(self, picture: Picture) -> None:
        """Count the seconds of a picture as served to its tenant."""
        self._decoding[picture.tenant] -= 1
        self._decoding += Counter()  # without the zeros
        self._served_s[picture.tenant] += picture.seconds
        self._served_s = {
            tenant: served_s
            for tenant, served_s in self._served_s.items()
            if served_s > self._clock_s or tenant in self._waiting or tenant in self._decoding
        }

    def clear(self) -> list[Picture]:
        """Remove all that wait."""
        pictures = list(chain.from_iterable(self._waiting.values()))
        self._waiting.clear()
        return pictures

    def _take(self) -> tuple[Picture, Block] | None:
        if not self._waiting:
            return None
        tenant = min(self._waiting, key=lambda each: (self._decoding[each], self._served_s[each]))
        picture = next(iter(self._waiting[tenant]))
        block = self._arena.allocate(picture.shape)
        if block is None:  # nobody overtakes: small pictures could keep a large one waiting for ever
            return None
        self.remove(picture)
        self._decoding[tenant] += 1
        self._clock_s = max(self._clock_s, self._served_s[tenant])
        return picture, block
