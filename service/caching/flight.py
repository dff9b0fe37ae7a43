"""The same work asked for several times at once is done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Shared(Generic[V]):
    """A task and how many callers wait for it."""

    task: asyncio.Task[V]
    waiting: int = 0


class SingleFlight(Generic[K, V]):
    """Callers of one key share one task, of one event loop.

    Args:
        abandon: whether the task is cancelled when no caller waits for it any more; otherwise it goes on.
    """

    def __init__(self, *, abandon: bool) -> None:
        self._abandon = abandon
        self._running: dict[K, _Shared[V]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._running

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of `work`, or of the task that an earlier caller of the key started.

        Raises:
            Exception: what the work raises, for every caller.
        """
        if key not in self._running:
            self._start(key, work)
        shared = self._running[key]
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if self._abandon and not shared.waiting and not shared.task.done():
                self._forget(key, shared)
                shared.task.cancel()

    async def close(self) -> None:
        """Cancel what is running, and return when it has ended."""
        tasks = [shared.task for shared in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> None:
        shared = self._running[key] = _Shared(asyncio.create_task(work()))
        shared.task.add_done_callback(lambda _: self._end(key, shared))

    def _end(self, key: K, shared: _Shared[V]) -> None:
        self._forget(key, shared)
        if not shared.task.cancelled():
            shared.task.exception()  # marks it as seen, even when no caller waits any more

    def _forget(self, key: K, shared: _Shared[V]) -> None:
        """Another task of the same key may have been started since an abandoned one was cancelled."""
        if self._running.get(key) is shared:
            del self._running[key]
