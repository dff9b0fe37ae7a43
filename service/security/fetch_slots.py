"""Bounds how many URLs are fetched at once: for one tenant, and for all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from service.errors import UrlError

ON_SERVER: Final = 128  # each is a connection to another server


class FetchSlots:
    """Slots for fetching URLs; who finds none free waits in line.

    Args:
        tenant: how many one tenant may have.
        wait_s: how long a URL waits for one.
        server: how many there are.
    """

    def __init__(self, tenant: int, wait_s: float, server: int = ON_SERVER) -> None:
        self._server = asyncio.Semaphore(server)
        self._tenant, self._wait_s = tenant, wait_s
        self._tenants: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Hold a slot during the block.

        Raises:
            UrlError: none became free in time.
        """
        own = self._tenants.setdefault(tenant, asyncio.Semaphore(self._tenant))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._wait_s):
                    await held.enter_async_context(own)  # first, so that a tenant that waits for its own holds no other
                    await held.enter_async_context(self._server)
            except TimeoutError:
                raise UrlError(
                    f"not fetched: {self._tenant} other URLs of yours were being fetched for {self._wait_s:g} s; send "
                    "fewer at once"
                ) from None
            yield
