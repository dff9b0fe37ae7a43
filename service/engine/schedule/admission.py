"""What is admitted, counted in images and bytes, before anything is spent on it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.engine.errors import DeadlineExceeded, Draining, EngineError, NotReady, QueueFull
from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import LatencyBook
from vlm_ood.errors import InputError

RETRY_AT_LEAST_S = 0.1


@dataclass(eq=False)
class Place:
    """Room for one item, from its admission to its answer."""

    key: BatchKey
    cost: int
    nbytes: int
    taken: bool = True


class Admission:
    """Bounds what is admitted and not yet answered, and predicts when it will be.

    Args:
        workers: how many there are now.
    """

    def __init__(self, max_items: int, max_bytes: int, latency: LatencyBook, workers: Callable[[], int]) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._latency, self._workers = latency, workers
        self._pending: Counter[BatchKey] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closing_s: float | None = None
        self.items = 0
        self.bytes = 0

    def admit(self, key: BatchKey, costs: Sequence[int], sizes: Sequence[int], deadline_s: float) -> list[Place]:
        """Admit all items of a request or none; a place for each.

        Raises:
            InputError: more than the engine could ever hold.
            Draining: the engine is stopping.
            QueueFull: no room now, or the predicted wait is longer than the deadline.
            DeadlineExceeded: it has passed already.
        """
        self.check_open()
        self._check_possible(len(sizes), sum(sizes))
        self._check_room(len(sizes), sum(sizes))
        self._check_time(key, sum(costs), deadline_s)
        return [self._enter(key, cost, nbytes) for cost, nbytes in zip(costs, sizes, strict=True)]

    def check_open(self) -> None:
        """Raise Draining when the engine is stopping."""
        if self._closing_s is not None:
            raise Draining("the server is stopping: try again when it is back", self._closing_s)

    def release(self, place: Place) -> None:
        """Give a place back; a second time does nothing."""
        if not place.taken:
            return
        place.taken = False
        self.items -= 1
        self.bytes -= place.nbytes
        self._pending[place.key] -= place.cost
        if not self._pending[place.key]:
            del self._pending[place.key]
        if not self.items:
            self._empty.set()

    def predicted_wait_s(self) -> float:
        """Seconds until everything that was admitted is encoded."""
        seconds = sum(self._latency.predict_s(key, cost) for key, cost in self._pending.items())
        return seconds / max(1, self._workers())

    def too_late(self, message: str) -> EngineError:
        """The error when a deadline passed: without a worker that is no fault of the request."""
        if self._workers():
            return DeadlineExceeded(message)
        wait_s = max(RETRY_AT_LEAST_S, self.predicted_wait_s())
        return NotReady("no worker was ready before the deadline; one is being started: try again", wait_s)

    async def drain(self, timeout_s: float) -> None:
        """Admit nothing more and wait until everything is answered.

        Raises:
            TimeoutError: something is not.
        """
        self._closing_s = timeout_s
        async with asyncio.timeout(timeout_s):
            await self._empty.wait()

    def _enter(self, key: BatchKey, cost: int, nbytes: int) -> Place:
        self._empty.clear()
        self.items += 1
        self.bytes += nbytes
        self._pending[key] += cost
        return Place(key, cost, nbytes)

    def _check_possible(self, items: int, nbytes: int) -> None:
        if items > self._max_items or nbytes > self._max_bytes:
            raise InputError(
                f"{items} images with {nbytes:,} bytes at once, the queue holds {self._max_items} and "
                f"{self._max_bytes:,} bytes: send fewer at once"
            )

    def _check_room(self, items: int, nbytes: int) -> None:
        if self.items + items > self._max_items or self.bytes + nbytes > self._max_bytes:
            raise QueueFull(
                f"the queue holds {self.items} of {self._max_items} images and {self.bytes:,} of "
                f"{self._max_bytes:,} bytes: try again later",
                max(RETRY_AT_LEAST_S, self.predicted_wait_s()),
            )

    def _check_time(self, key: BatchKey, cost: int, deadline_s: float) -> None:
        """An empty engine admits everything, so that a wrong prediction can't keep it empty for ever."""
        if deadline_s <= 0:
            raise self.too_late("the deadline passed before the work began: allow more time or send less at once")
        if not self.items:
            return
        ahead_s = self.predicted_wait_s()
        own_s = self._latency.predict_s(key, cost) / max(1, self._workers())
        if ahead_s + own_s > deadline_s:
            raise QueueFull(
                f"the wait is about {ahead_s:.1f} s and the work {own_s:.1f} s, the deadline {deadline_s:.1f} s: "
                "try again later or allow more time",
                max(RETRY_AT_LEAST_S, ahead_s + own_s - deadline_s),
            )
