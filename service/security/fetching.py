"""Fetches images by URL without giving a caller access to the network of the server.

Every address a name resolves to is checked, the connection is pinned to one of them (no second look-up that could say
something else), every redirect starts over, and bytes are counted while they stream. Proxies of the environment are
never used: behind one, the checks would be about the wrong machine.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from service.errors import UrlError
from service.security.pinned import PinnedTransport, direct
from service.security.urls import checked_url

MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_WHY: Final = {
    httpx.ConnectError: "no connection can be made",
    httpx.RemoteProtocolError: "the other server's answer is malformed or ends too early",
    httpx.NetworkError: "the connection was lost",
    httpx.TimeoutException: "the other server is too slow",
}


def not_counted(_: int) -> None:
    """Count nothing."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches images.

    Args:
        max_bytes: of a picture.
        schemes: that are allowed.
        ports: likewise.
        timeout_s: for a picture: look-ups, connections and redirects together.
        transport: what connects; by default a pinned one that knows no proxy.
    """

    max_bytes: int
    schemes: tuple[str, ...] = ("https",)
    ports: tuple[int, ...] = (443,)
    timeout_s: float = 10.0
    transport: httpx.AsyncBaseTransport | None = None
    _client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        client = httpx.AsyncClient(
            transport=self.transport or PinnedTransport(direct()),
            trust_env=False,
            follow_redirects=False,
            timeout=self.timeout_s,
            headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "vlm-ood"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # another caller's fetch would send them
        )
        object.__setattr__(self, "_client", client)

    async def fetch(self, url: str, count: Callable[[int], None] = not_counted) -> bytes:
        """The bytes of the file at the URL.

        Args:
            url: as the caller sent it.
            count: called with the size of each piece as it arrives; what it raises ends the fetch.

        Raises:
            UrlError: the URL is not allowed or not public, or the file is missing, too large or too slow.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._follow(url, count)
        except TimeoutError:
            raise UrlError(f"not fetched within {self.timeout_s:g} s: send the file itself") from None
        except httpx.HTTPError as error:
            raise UrlError(f"can't be fetched, {_why(error)}: try again, or send the file itself") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _follow(self, url: str, count: Callable[[int], None]) -> bytes:
        target = checked_url(url, self.schemes, self.ports)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._client.stream("GET", target) as response:
                if response.status_code not in _REDIRECTS:
                    return await self._read(response, count)
                target = self._next(target, response)
        raise UrlError(f"more than {MAX_REDIRECTS} redirects: give the final URL")

    def _next(self, target: httpx.URL, response: httpx.Response) -> httpx.URL:
        try:
            joined = str(target.join(response.headers.get("location", "")))
        except (httpx.InvalidURL, ValueError):
            raise UrlError("redirected to an invalid URL") from None
        try:
            return checked_url(joined, self.schemes, self.ports)
        except UrlError as error:
            raise UrlError(f"redirected to a URL that is not allowed: {error}") from None

    async def _read(self, response: httpx.Response, count: Callable[[int], None]) -> bytes:
        if response.status_code != 200:
            raise UrlError(f"the other server answers {response.status_code}")
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise UrlError("the answer is compressed, which was not asked for: send the file itself")
        length = response.headers.get("content-length", "")
        self._check(int(length[:20]) if length.isdecimal() else 0)
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            count(len(chunk))
            self._check(len(content))
        return bytes(content)

    def _check(self, nbytes: int) -> None:
        if nbytes > self.max_bytes:
            raise UrlError(f"larger than {self.max_bytes:,} bytes: shrink the image")


def _why(error: httpx.HTTPError) -> str:
    """What happened, in words that name no address of a network."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "the other server's certificate is not valid"
    return next((words for kind, words in _WHY.items() if isinstance(error, kind)), "the exchange failed")
