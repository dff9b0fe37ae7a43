"""The same work asked for several times at once is done once."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class StillRunning(Exception):  # noqa: N818 (not an error: the work goes on)
    """A caller has waited as long as it wanted to."""


@dataclass
class _Shared(Generic[V]):
    """A task, how many callers wait for it, and until when it goes on without any."""

    task: asyncio.Task[V]
    waiting: int = 0
    kept_until: float = 0.0


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

    async def run(
        self,
        key: K,
        work: Callable[[], Coroutine[Any, Any, V]],
        *,
        wait_s: float | None = None,
        linger_s: float = 0.0,
        keep: bool = False,
    ) -> V:
        """The result of `work`, or of the task that an earlier caller of the key started.

        Args:
            key: of the work.
            work: called if no task of the key is running.
            wait_s: how long to wait; None for as long as it takes.
            linger_s: how long the task goes on without callers after this one has waited in vain.
            keep: whether it goes on without callers in any case.

        Raises:
            StillRunning: it takes longer than `wait_s`.
            Exception: what the work raises, for every caller.
        """
        if key not in self._running:
            self._start(key, work)
        shared = self._running[key]
        shared.waiting += 1
        if keep:
            self.keep(key)
        try:
            await asyncio.wait([shared.task], timeout=wait_s)
            if not shared.task.done():
                self.keep(key, linger_s)
                raise StillRunning
        finally:
            shared.waiting -= 1
            self._leave(key, shared)
        return shared.task.result()

    def keep(self, key: K, seconds: float = math.inf) -> None:
        """Let the task of the key go on for this long when no caller waits for it; nothing if none is running."""
        shared = self._running.get(key)
        if shared is not None:
            shared.kept_until = max(shared.kept_until, asyncio.get_running_loop().time() + seconds)

    async def close(self) -> None:
        """Cancel what is running, and return when it has ended."""
        tasks = [shared.task for shared in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> None:
        shared = self._running[key] = _Shared(asyncio.create_task(work()))
        shared.task.add_done_callback(lambda _: self._end(key, shared))

    def _leave(self, key: K, shared: _Shared[V]) -> None:
        """Cancel the task if no caller waits for it, once the time is over for which it goes on without."""
        if not self._abandon or shared.waiting or shared.task.done():
            return
        loop = asyncio.get_running_loop()
        left_s = shared.kept_until - loop.time()
        if left_s <= 0:
            self._forget(key, shared)
            shared.task.cancel()
        elif left_s < math.inf:
            loop.call_later(left_s, self._leave, key, shared)

    def _end(self, key: K, shared: _Shared[V]) -> None:
        self._forget(key, shared)
        if not shared.task.cancelled():
            shared.task.exception()  # marks it as seen, even when no caller waits any more

    def _forget(self, key: K, shared: _Shared[V]) -> None:
        """Another task of the same key may have been started since an abandoned one was cancelled."""
        if self._running.get(key) is shared:
            del self._running[key]
