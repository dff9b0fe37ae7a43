"""The same work asked for several times at once is done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class SingleFlight(Generic[K, V]):
    """Callers of one key share one task.

    Args:
        abandon: whether the task is cancelled when every caller has left; otherwise it ends for whoever asks next.
    """

    def __init__(self, *, abandon: bool) -> None:
        self._abandon = abandon
        self._flights: dict[K, _Flight[V]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of `work`, started by the first caller."""
        flight = self._flights.get(key) or self._take_off(key, work)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if self._abandon and not flight.waiters and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()

    def _take_off(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> _Flight[V]:
        flight = self._flights[key] = _Flight(asyncio.create_task(work()))
        flight.task.add_done_callback(lambda task: self._landed(key, flight))
        return flight

    def _landed(self, key: K, flight: _Flight[V]) -> None:
        self._land(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # seen, even when every caller has left

    def _land(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
