"""Replaces the URLs of a request by the images behind them, within limits per request, tenant and server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from service.errors import BodyTooLargeError, UrlError
from service.http.body import Upload
from service.security.budget import ByteBudget, ByteShare
from service.security.fetch_slots import FetchSlots
from service.security.fetching import Fetcher
from service.security.waits import OutsideWaits

REQUEST_AT_ONCE: Final = 8  # URLs of one request


@dataclass(frozen=True)
class UrlImages:
    """Fetches the images of requests.

    Args:
        fetcher: None when URLs are not fetched.
        budget: counts the bytes with those of request bodies.
        slots: how many URLs are fetched at once.
        waits: how many requests wait for URLs at once.
        max_bytes: of all images behind the URLs of one request.
    """

    fetcher: Fetcher | None
    budget: ByteBudget
    slots: FetchSlots
    waits: OutsideWaits
    max_bytes: int

    @asynccontextmanager
    async def fetched(self, tenant: str, uploads: Sequence[Upload]) -> AsyncIterator[list[Upload]]:
        """The uploads with bytes, or an error, in place of each URL; their bytes count until the end of the block.

        Raises:
            BodyTooLargeError: the images are larger than `max_bytes` together; nothing more is fetched.
            BusyError: too many bytes are in flight, likewise; or too many requests wait.
        """
        with self.budget.share(tenant) as share:
            if self.fetcher is not None and any(isinstance(upload.content, str) for upload in uploads):
                with self.waits.of(tenant, "url"):
                    fetched = await self._all(tenant, uploads, _Counted(share, self.max_bytes))
            else:
                fetched = await self._all(tenant, uploads, _Counted(share, self.max_bytes))
            yield fetched

    async def close(self) -> None:
        """Close the connections."""
        if self.fetcher is not None:
            await self.fetcher.close()

    async def _all(self, tenant: str, uploads: Sequence[Upload], counted: "_Counted") -> list[Upload]:
        gate = asyncio.Semaphore(REQUEST_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:  # the first error of the request cancels the other fetches
                tasks = [group.create_task(self._one(tenant, upload, counted, gate)) for upload in uploads]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, tenant: str, upload: Upload, counted: "_Counted", gate: asyncio.Semaphore) -> Upload:
        if not isinstance(upload.content, str):
            return upload
        async with gate:
            try:
                async with self.slots.slot(tenant):
                    counted.check()  # another image of the request may have exceeded the limit meanwhile
                    return await upload.fetched(self.fetcher, counted.take)
            except UrlError as error:
                return Upload(upload.name, error)


class _Counted:
    """The bytes fetched for one request, also those of images that turn out to be unusable."""

    def __init__(self, share: ByteShare, limit: int) -> None:
        self._share, self._limit = share, limit

    def take(self, count: int) -> None:
        """Count bytes that have arrived."""
        self._share.take(count)
        self.check()

    def check(self) -> None:
        """Raise an error when the limit is exceeded."""
        if self._share.taken > self._limit:
            raise BodyTooLargeError(
                f"the images behind the URLs of this request are over {self._limit:,} bytes together: send them in "
                "several requests"
            )
