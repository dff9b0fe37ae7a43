"""Counts the bytes from outside that are in memory, bodies and fetched images alike, in one budget for the server."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from service.errors import BusyError

TENANT_SHARE: Final = 0.75  # of the budget; the rest stays free for other tenants
RETRY_AFTER_S: Final = 1.0  # bodies are in memory for about as long


class ByteBudget:
    """The bytes in flight: counted while they arrive, given back when their request ends.

    Args:
        limit: of all tenants together, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used: Counter[str] = Counter()

    @property
    def used(self) -> int:
        """Bytes in flight, of all tenants."""
        return self._used.total()

    @contextmanager
    def share(self, tenant: str) -> Iterator["ByteShare"]:
        """What one request takes from the budget; given back at the end of the block.

        Args:
            tenant: of the request; empty for a caller without a key on an open path.
        """
        share = ByteShare(self, tenant)
        try:
            yield share
        finally:
            self._change(tenant, -share.taken)

    def _change(self, tenant: str, count: int) -> None:
        self._used[tenant] += count
        if not self._used[tenant]:
            del self._used[tenant]

    def _check(self, tenant: str) -> None:
        if self.used > self._limit:
            raise BusyError(f"the server holds {self._limit:,} bytes of images already: try again later", RETRY_AFTER_S)
        allowed = int(self._limit * TENANT_SHARE)
        if self._used[tenant] > allowed:
            raise BusyError(
                f"your requests hold {allowed:,} bytes of images already: send fewer requests at once", RETRY_AFTER_S
            )


class ByteShare:
    """What one request holds of the budget; made by `ByteBudget.share`."""

    def __init__(self, budget: ByteBudget, tenant: str) -> None:
        self._budget, self._tenant = budget, tenant
        self.taken = 0

    def take(self, count: int) -> None:
        """Count bytes that have arrived.

        Raises:
            BusyError: they exceed the budget; they stay counted, since they are in memory until the request ends.
        """
        self.taken += count
        self._budget._change(self._tenant, count)
        self._budget._check(self._tenant)
