"""What is admitted, counted in images and bytes of each tenant, before anything is spent on it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from service.engine.errors import DeadlineExceeded, Draining, EngineError, NotReady, QueueFull
from service.engine.schedule.forecast import Forecast, Workers
from service.engine.schedule.holdings import Holdings, Place
from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import LatencyBook
from vlm_ood.errors import InputError

RETRY_AT_LEAST_S = 0.1
STALE_S = 5.0  # a prediction from batches that are older refuses no more than one request in this time

Refusal = Literal["share", "wait", "no_worker", "late", "stopping"]


class Admission:
    """Bounds what is admitted and not yet answered, and refuses what would not be answered in time.

    Args:
        max_items: images that a tenant may hold while others hold none; see `Holdings` for what others leave.
        max_bytes: likewise.
        latency: predicts batches.
        workers: that encode.
        refused: is called with the reason and the number of items that were refused.
    """

    def __init__(
        self,
        max_items: int,
        max_bytes: int,
        latency: LatencyBook,
        workers: Workers,
        refused: Callable[[Refusal, int], object] = lambda reason, items: None,
    ) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._latency, self._workers, self._refused = latency, workers, refused
        self._empty = asyncio.Event()
        self._empty.set()
        self._closing_s: float | None = None
        self._tried: dict[BatchKey, float] = {}
        self.holdings = Holdings()
        self.forecast = Forecast(self.holdings, latency, workers)

    def admit(
        self, key: BatchKey, costs: Sequence[int], sizes: Sequence[int], deadline_s: float, tenant: str = ""
    ) -> list[Place]:
        """Admit all items of a request or none; a place for each.

        Raises:
            InputError: more than the engine could ever hold.
            Draining: the engine is stopping.
            NotReady: no worker is predicted to be ready before the deadline.
            QueueFull: no room for this tenant now, or the predicted wait is longer than the deadline.
            DeadlineExceeded: it has passed already.
        """
        self._check_possible(len(sizes), sum(sizes))
        self.check_open(deadline_s, len(sizes))
        self._check_share(tenant, len(sizes), sum(sizes))
        self._check_time(tenant, key, costs, deadline_s)
        return [self._enter(Place(tenant, key, cost, nbytes)) for cost, nbytes in zip(costs, sizes, strict=True)]

    def check_open(self, deadline_s: float, items: int = 1) -> None:
        """Check that something is encoded before the deadline.

        Raises:
            Draining: the engine is stopping.
            NotReady: no worker is predicted to be ready by then.
        """
        if self._closing_s is not None:
            self._refused("stopping", items)
            raise Draining("the server is stopping: try again when it is back", self._closing_s)
        if not self._workers.ready() and (back_in_s := self._workers.back_in_s()) > deadline_s > 0:
            self._refused("no_worker", items)
            raise no_worker(back_in_s)

    def release(self, place: Place) -> None:
        """Give a place back; a second time does nothing."""
        self.holdings.leave(place)
        if not self.holdings.all.items:
            self._empty.set()

    def too_late(self, message: str) -> EngineError:
        """The error when a deadline passed: without a worker that is no fault of the request."""
        return DeadlineExceeded(message) if self._workers.ready() else no_worker(self._workers.back_in_s())

    async def drain(self, timeout_s: float) -> None:
        """Admit nothing more and wait until everything is answered.

        Raises:
            TimeoutError: something is not.
        """
        self._closing_s = timeout_s
        async with asyncio.timeout(timeout_s):
            await self._empty.wait()

    def _enter(self, place: Place) -> Place:
        self._empty.clear()
        self.holdings.enter(place)
        return place

    def _check_possible(self, items: int, nbytes: int) -> None:
        if items > self._max_items or nbytes > self._max_bytes:
            raise InputError(
                f"{items} images with {nbytes:,} bytes at once, the queue holds {self._max_items} and "
                f"{self._max_bytes:,} bytes: send fewer at once"
            )

    def _check_share(self, tenant: str, items: int, nbytes: int) -> None:
        own, (most, most_bytes) = (
            self.holdings.of(tenant),
            self.holdings.share(tenant, self._max_items, self._max_bytes),
        )
        if own.items + items > most or own.bytes + nbytes > most_bytes:
            self._refused("share", items)
            wait_s = self.forecast.wait_s(tenant) if own.items else self.forecast.all_s()
            raise QueueFull(
                f"of your tenant, {own.items} of {most} images and {own.bytes:,} of {most_bytes:,} bytes wait, which "
                "is all it may have in the queue now: try again later",
                max(RETRY_AT_LEAST_S, wait_s),
            )

    def _check_time(self, tenant: str, key: BatchKey, costs: Sequence[int], deadline_s: float) -> None:
        """A wrong prediction refuses nobody for ever: an empty engine admits everything, and a busy one tries again."""
        if deadline_s <= 0:
            self._refused("late", len(costs))
            raise self.too_late("the deadline passed before the work began: allow more time or send less at once")
        wait_s = self.forecast.wait_s(tenant, key, sum(costs))
        if wait_s <= deadline_s or not self.holdings.all.items or self._tries(key):
            return
        self._refused("wait", len(costs))
        raise QueueFull(
            f"it would take about {wait_s:.1f} s, the deadline is {deadline_s:.1f} s: try again later or allow more "
            "time",
            max(RETRY_AT_LEAST_S, wait_s - deadline_s),
        )

    def _tries(self, key: BatchKey) -> bool:
        """Whether the prediction is so old that this request is to renew it; one at a time is."""
        now = self._latency.clock()
        if min(self._latency.age_s(key), now - self._tried.get(key, float("-inf"))) < STALE_S:
            return False
        self._tried = {tried: at for tried, at in self._tried.items() if now - at < STALE_S} | {key: now}
        return True


def no_worker(back_in_s: float) -> NotReady:
    """The error while no worker takes batches."""
    wait_s = max(RETRY_AT_LEAST_S, back_in_s)
    return NotReady(f"no worker is ready; one is being started, which takes about {wait_s:.0f} s: try again", wait_s)
