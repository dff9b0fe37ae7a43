"""Fetches images by URL without giving a caller access to the network of the server.

Every address a name resolves to is checked, the connection is pinned to one of them (no second look-up that could say
something else), every redirect starts over, and bytes are counted while they stream. Proxies of the environment are
never used: behind one, the checks would be about the wrong machine.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import httpx

from service.security.addresses import is_public
from vlm_ood.errors import ImageError

Resolve = Callable[[str, int], Awaitable[list[str]]]

MAX_REDIRECTS: Final = 3
MAX_URL: Final = 2048
_REDIRECTS: Final = {301, 302, 303, 307, 308}


class UrlError(ImageError):
    """A URL that is not fetched, or that gave no image."""


async def resolve(host: str, port: int) -> list[str]:
    """All IP addresses of a host name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to a checked address; the Host header and the certificate's name stay those of the URL.

    Args:
        inner: the transport that connects.
        resolve: gives the addresses of a host name and port.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, resolve: Resolve = resolve) -> None:
        self._inner = inner
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address of its host.

        Raises:
            UrlError: the host has no address, or one that isn't public.
        """
        host = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        address = await self._public_address(host, port)
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)  # the Host header was set from the name already
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _public_address(self, host: str, port: int) -> str:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise UrlError(f"{host} can't be resolved: check the URL, or try again")
        if not all(map(is_public, addresses)):
            raise UrlError(f"{host} is not a public address: send the file itself")
        return addresses[0]


@dataclass(frozen=True)
class Fetcher:
    """Fetches images.

    Args:
        max_bytes: of a picture.
        schemes: that are allowed.
        ports: likewise.
        timeout_s: for a picture, redirects and all.
        transport: what connects; by default a pinned one that knows no proxy.
    """

    max_bytes: int
    schemes: tuple[str, ...] = ("https",)
    ports: tuple[int, ...] = (443,)
    timeout_s: float = 10.0
    transport: httpx.AsyncBaseTransport | None = None
    _client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        transport = self.transport or PinnedTransport(httpx.AsyncHTTPTransport(trust_env=False))
        client = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=self.timeout_s,
            headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "vlm-ood"},
        )
        object.__setattr__(self, "_client", client)

    async def fetch(self, url: str) -> bytes:
        """The bytes of the file at the URL.

        Raises:
            UrlError: the URL is not allowed or not public, or the file is missing, too large or too slow.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._follow(url)
        except TimeoutError:
            raise UrlError(f"not fetched within {self.timeout_s:g} s: send the file itself") from None
        except httpx.HTTPError as error:
            raise UrlError(f"can't be fetched ({type(error).__name__}): try again, or send the file itself") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _follow(self, url: str) -> bytes:
        target = self._checked(url)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._client.stream("GET", target) as response:
                if response.status_code not in _REDIRECTS:
                    return await self._read(response)
                target = self._next(target, response)
            self._client.cookies.clear()
        raise UrlError(f"more than {MAX_REDIRECTS} redirects: give the final URL")

    def _next(self, target: httpx.URL, response: httpx.Response) -> httpx.URL:
        try:
            return self._checked(str(target.join(response.headers.get("location", ""))))
        except httpx.InvalidURL:
            raise UrlError("redirected to an invalid URL") from None

    def _checked(self, url: str) -> httpx.URL:
        if len(url) > MAX_URL or "\\" in url or any(character <= " " for character in url):
            raise UrlError(f"not a plain URL of at most {MAX_URL} characters")
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise UrlError("not a URL") from None
        if parsed.scheme not in self.schemes:
            raise UrlError(f"scheme {parsed.scheme!r} is not allowed, only {', '.join(self.schemes)}")
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        if port not in self.ports:
            raise UrlError(f"port {port} is not allowed, only {', '.join(map(str, self.ports))}")
        if parsed.userinfo or not parsed.host:
            raise UrlError("a URL needs a host and may not hold a user or password")
        return parsed

    async def _read(self, response: httpx.Response) -> bytes:
        if response.status_code != 200:
            raise UrlError(f"the other server answers {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise UrlError("the answer is compressed, which was not asked for: send the file itself")
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > self.max_bytes:
                raise UrlError(f"larger than {self.max_bytes:,} bytes: shrink the image")
        return bytes(content)
