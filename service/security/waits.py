"""Limits the requests that wait for something outside, so that they leave connections to those that are scored."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from service.errors import BusyError
from service.observability.metrics import HttpMetrics

RETRY_S: Final = 5.0  # half of the time limit of a URL, and of the wait for a detector

Awaited = Literal["url", "making"]


class OutsideWaits:
    """Counts requests that wait for URLs, or for a detector or bank in the making, while they do so.

    Args:
        server: how many may wait at once.
        tenant: how many of one tenant.
        metrics: show them.
    """

    def __init__(self, server: int, tenant: int, metrics: HttpMetrics) -> None:
        self._server, self._tenant = server, tenant
        self._metrics = metrics
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def of(self, tenant: str, awaited: Awaited) -> Iterator[None]:
        """Count a request of the tenant during the block.

        Raises:
            BusyError: too many wait already.
        """
        self._check(tenant)
        gauge = self._metrics.waiting.labels(awaited)
        self._waiting[tenant] += 1
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant]

    def _check(self, tenant: str) -> None:
        if self._waiting[tenant] >= self._tenant:
            self._refuse("tenant", f"{self._tenant} requests of yours", "VLM_OOD_MAX_WAITING_PER_TENANT")
        if self._waiting.total() >= self._server:
            self._refuse("server", f"{self._server} requests", "VLM_OOD_MAX_WAITING")

    def _refuse(self, limit: str, who: str, setting: str) -> None:
        self._metrics.refused_waits.labels(limit).inc()
        raise BusyError(
            f"{who} wait for URLs, or for detectors or banks in the making; no more may ({setting}): try again later",
            RETRY_S,
        )
