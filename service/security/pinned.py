"""Connects to addresses that were checked, so that no second look-up can give another one."""

import ssl
from typing import Any, Final

import httpx

from service.errors import UrlError
from service.security.addresses import is_public
from service.security.resolving import Resolve, resolve

ADDRESSES_TRIED: Final = 4
_ONE_REQUEST_EACH: Final = httpx.Limits(  # a kept connection is of an address: the next request may be of another name
    max_connections=None, max_keepalive_connections=0
)


def direct(verify: ssl.SSLContext | None = None) -> httpx.AsyncHTTPTransport:
    """A transport that uses no proxy and makes a connection for each request.

    Args:
        verify: checks certificates; by default those of the well-known authorities are accepted.
    """
    return httpx.AsyncHTTPTransport(
        verify=verify or httpx.create_ssl_context(trust_env=False), trust_env=False, limits=_ONE_REQUEST_EACH
    )


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to a checked address; the Host header and the certificate's name stay those of the URL.

    Args:
        inner: the transport that connects.
        resolve: gives the addresses of a host name.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, resolve: Resolve = resolve) -> None:
        self._inner = inner
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address of its host that accepts a connection.

        Raises:
            UrlError: the host has no address, or one that isn't public.
            httpx.TransportError: no address accepts a connection, or the exchange failed.
        """
        name = request.url.raw_host.decode("ascii")
        addresses = (await self._public_addresses(name))[:ADDRESSES_TRIED]
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_to(address, name, request, len(addresses)))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_to(addresses[-1], name, request, len(addresses)))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _public_addresses(self, host: str) -> list[str]:
        addresses = await self._resolve(host)
        if not addresses:
            raise UrlError(f"{host} has no address: check the URL")
        if not all(map(is_public, addresses)):
            raise UrlError(f"{host} is not a public address: send the file itself")
        return addresses


def _to(address: str, name: str, request: httpx.Request, share: int) -> httpx.Request:
    """The request to this address, with its share of the time for connecting; the Host header is set already."""
    timeouts: dict[str, Any] = dict(request.extensions.get("timeout", {}))
    if timeouts.get("connect") is not None:
        timeouts["connect"] /= share
    extensions = {**request.extensions, "timeout": timeouts, "sni_hostname": name}
    url = request.url.copy_with(host=address)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)
