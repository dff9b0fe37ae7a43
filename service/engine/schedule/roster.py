"""Which encoders are loaded: the default always, others on demand, and the least recently used one makes room."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from service.caching.flight import SingleFlight
from service.engine.records import EncoderInfo, EncoderState
from vlm_ood.errors import UnknownNameError, VlmOodError


class Roster:
    """Concurrent callers share one load; loads run one after another, and never on a thread that serves requests.

    Args:
        names: what may be asked for; the first is never evicted.
        limit: encoders at the same time.
        load: on the workers.
        unload: likewise.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        limit: int,
        load: Callable[[str], Awaitable[EncoderInfo]],
        unload: Callable[[str], Awaitable[None]],
    ) -> None:
        self.names = names
        self._limit, self._load_on_workers, self._unload_on_workers = limit, load, unload
        self._infos: dict[str, EncoderInfo] = {}  # the least recently used one first
        self._leases: Counter[str] = Counter()
        self._returned = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._loads: SingleFlight[str, None] = SingleFlight(abandon=False)
        self._failed: set[str] = set()

    def loaded(self) -> tuple[str, ...]:
        """Names of the encoders that are loaded."""
        return tuple(self._infos)

    def state(self, name: str) -> EncoderState:
        """How far the loading of the encoder is.

        Raises:
            UnknownNameError: it may not be asked for.
        """
        self._check(name)
        if name in self._infos:
            return "ready"
        if name in self._loads:
            return "loading"
        return "failed" if name in self._failed else "cold"

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[EncoderInfo]:
        """The encoder, loaded, and kept while the caller needs it.

        Raises:
            UnknownNameError: it may not be asked for.
            VlmOodError: it can't be loaded.
        """
        self._check(name)
        while name not in self._infos:
            await self._loads.run(name, lambda: self._load(name))
        info = self._infos[name] = self._infos.pop(name)
        self._leases[name] += 1
        try:
            yield info
        finally:
            self._leases[name] -= 1
            self._returned.set()

    async def _load(self, name: str) -> None:
        async with self._one_at_a_time:
            while (victim := self._victim()) is not None:
                await self._evict(victim)
            self._failed.discard(name)
            try:
                self._infos[name] = await self._load_on_workers(name)
            except VlmOodError:
                self._failed.add(name)
                raise

    def _victim(self) -> str | None:
        if len(self._infos) < self._limit:
            return None
        return next((name for name in self._infos if name != self.names[0]), None)

    async def _evict(self, name: str) -> None:
        """Requests that use it may finish; requests for it from now on wait until it is loaded again."""
        del self._infos[name]
        while self._leases[name]:
            self._returned.clear()
            await self._returned.wait()
        await self._unload_on_workers(name)

    def _check(self, name: str) -> None:
        if name not in self.names:
            raise UnknownNameError("encoder", name, self.names)
