"""Predicts how long a tenant waits: tenants take turns, so one that asks for little passes one that asks for much."""

from collections import Counter
from typing import Protocol

from service.engine.schedule.holdings import Held, Holdings
from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import LatencyBook


class Workers(Protocol):
    """What a forecast must know of the workers."""

    def ready(self) -> int:
        """How many take batches."""

    def back_in_s(self) -> float:
        """Seconds until one does, as predicted; 0 while there is one."""


class Forecast:
    """Waits, from what is held, from past batches and from the state of the workers."""

    def __init__(self, holdings: Holdings, latency: LatencyBook, workers: Workers) -> None:
        self._holdings, self._latency, self._workers = holdings, latency, workers

    def all_s(self) -> float:
        """Seconds until everything that was admitted is encoded."""
        return self._workers.back_in_s() + self._work_s(self._holdings.all.costs) / max(1, self._workers.ready())

    def wait_s(self, tenant: str, key: BatchKey | None = None, cost: int = 0) -> float:
        """Seconds until all that the tenant holds, and so much more of a key, is encoded.

        By then each other tenant was served for as long as this one, or has all that it holds.
        """
        own = self._holdings.of(tenant).costs + Counter({key: cost} if key is not None else {})
        own_s = self._work_s(own)
        others = (held for name, held in self._holdings.tenants.items() if name != tenant)
        before_s = sum(min(own_s, self._held_s(held)) for held in others)
        return self._workers.back_in_s() + (own_s + before_s) / max(1, self._workers.ready())

    def _held_s(self, held: Held) -> float:
        return self._work_s(held.costs)

    def _work_s(self, costs: Counter[BatchKey]) -> float:
        return sum(self._latency.predict_s(key, cost) for key, cost in costs.items())
