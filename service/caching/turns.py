"""A limited number of places for long work; tenants take turns, and none takes more than half of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count


class Turns:
    """Places, on one event loop: a free one goes to the tenant that holds fewest, then to the one that waits longest.

    Args:
        places: how many pieces of work run at once.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._each = max(1, places // 2)
        self._held: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}  # {turn: tenant}, in the order of arrival
        self._numbers = count(1)
        self._last: dict[str, int] = {}  # {tenant: the number of its last turn}

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it while the block runs."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = tenant
        self._give()
        try:
            await turn
            yield
        finally:
            if turn.cancelled():
                self._waiting.pop(turn, None)
            else:
                self._held[tenant] -= 1
            self._give()

    def _give(self) -> None:
        """Give the free places to those who wait."""
        while self._held.total() < self.places:
            entitled = [
                (self._held[tenant], self._last.get(tenant, 0), turn)
                for turn, tenant in self._waiting.items()
                if self._held[tenant] < self._each and not turn.done()
            ]
            if not entitled:
                return
            *_, turn = min(entitled, key=lambda each: each[:2])
            tenant = self._waiting.pop(turn)
            self._held[tenant] += 1
            self._last[tenant] = next(self._numbers)
            turn.set_result(None)
