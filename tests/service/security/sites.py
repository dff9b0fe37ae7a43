"""Live servers on loopback that stand for the internet, an inner network beside them, and names for both.

127.0.0.2 to 127.0.0.9 count as public addresses in these tests; 127.0.0.1 stays what it is, private.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest

from service.security.addresses import is_public
from service.security.fetching import Fetcher
from service.security.pinned import PinnedTransport, direct

PUBLIC: Final = "127.0.0.2"
OTHER: Final = "127.0.0.3"
PRIVATE: Final = "127.0.0.1"
COUNTED_AS_PUBLIC: Final = frozenset(f"127.0.0.{last}" for last in range(2, 10))

_AUTHORITIES: Final = ssl.create_default_context()

Answer = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One connection: the head of its request, and the stream to answer on."""

    head: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.head.split(" ")[1]

    def header(self, name: str) -> str | None:
        lines = [line.partition(":") for line in self.head.split("\r\n")[1:]]
        return next((value.strip() for key, _, value in lines if key.lower() == name.lower()), None)

    async def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)
        await self.writer.drain()

    async def until_closed(self) -> None:
        """Return when the other side has closed the connection."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()


@dataclass
class Site:
    """A server and what it has seen.

    Args:
        answer: answers each request.
    """

    answer: Answer
    port: int = 0
    heads: list[Exchange] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    tasks: list[asyncio.Task[None] | None] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            exchange = Exchange(head, reader, writer)
            self.heads.append(exchange)
            await self.answer(exchange)
        self.closed.set()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@asynccontextmanager
async def site(
    answer: Answer, address: str = PUBLIC, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Site]:
    """Serve on this address until the end of the block."""
    made = Site(answer)
    server = await asyncio.start_server(made.serve, address, port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, made.tasks)), timeout=5)


def text(status: str = "200 OK", body: bytes = b"picture", **headers: str) -> Answer:
    """An answer with this status, these headers (underscores are dashes) and a body whose length is declared."""

    async def answer(exchange: Exchange) -> None:
        own = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await exchange.send(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{own}\r\n".encode() + body)

    return answer


def raw(*pieces: str | bytes) -> Answer:
    """An answer of these bytes, after which the connection is closed."""

    async def answer(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)

    return answer


class Names:
    """A resolver of test names; each look-up is recorded.

    Args:
        names: the addresses of each name; a host that is not among them is its own address.
    """

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self.names = dict(names)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        return list(self.names.get(host, [host]))


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count some addresses of loopback as public."""
    monkeypatch.setattr(
        "service.security.pinned.is_public", lambda address: address in COUNTED_AS_PUBLIC or is_public(address)
    )


def fetcher_of(
    names: Names, *sites: Site, max_bytes: int = 1000, timeout_s: float = 5.0, verify: ssl.SSLContext | None = None
) -> Fetcher:
    """A fetcher that knows these names and may use the ports of these sites, over real sockets."""
    transport = PinnedTransport(direct(verify or _AUTHORITIES), names)
    ports = tuple(each.port for each in sites)
    return Fetcher(max_bytes, ("http", "https"), ports, timeout_s, transport)
