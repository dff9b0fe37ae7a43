"""HTTP/1.1 by hand: requests as bytes, one connection each. An HTTP client would take more time than the server."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.hostile_images import Picture
from tests.service.hostile import CLASSES

HANG_S = 15.0  # the server's own deadline is ten seconds
BOUNDARY = "hostile"


@dataclass(frozen=True)
class Address:
    """Where to connect, and from which address of this machine."""

    port: int
    source: str = "127.0.0.1"
    host: str = "127.0.0.1"

    async def open(self, limit: int = 2**20) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        return await asyncio.open_connection(self.host, self.port, local_addr=(self.source, 0), limit=limit)


@dataclass(frozen=True)
class Answer:
    """A response, or how it failed to come.

    Args:
        status: the status, "hang" or "cut".
        body: of the response.
        headers: likewise, names in lower case.
        seconds: from connecting to the last byte.
    """

    status: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it was answered 2xx."""
        return self.status.startswith("2")

    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """The first value of the header; empty without one."""
        return next((value for key, value in self.headers if key == name), "")

    def error(self) -> str:
        """The code of the first image that has an error; empty when all were scored."""
        with suppress(ValueError, KeyError, TypeError):
            errors = [result["error"] for result in self.json()["results"]]
            return next((str(error["code"]) for error in errors if error), "")
        return ""


def head(method: str, path: str, token: str = "", *lines: str) -> bytes:
    """The head of a request."""
    key = [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *key, *lines, "", ""]).encode()


def request(method: str, path: str, token: str = "", body: bytes = b"", kind: str = "application/json") -> bytes:
    """A request on a connection of its own."""
    lines = ["Connection: close"] + ([f"Content-Type: {kind}", f"Content-Length: {len(body)}"] if body else [])
    return head(method, path, token, *lines) + body


def form(pictures: Sequence[Picture], classes: Sequence[str] = CLASSES, **fields: str) -> tuple[bytes, str]:
    """The body of a form, and its content type."""
    texts = [("classes", name) for name in classes] + list(fields.items())
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in texts]
    parts += [
        f'Content-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in pictures
    ]
    border = f"--{BOUNDARY}\r\n".encode()
    body = b"".join(border + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


async def ask(address: Address, content: bytes, timeout_s: float = HANG_S) -> Answer:
    """Send one request and read its answer."""
    started = time.perf_counter()
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await address.open()
            writer.write(content)  # not drained: the server may answer before it has read everything
            status, headers, body = await read_answer(reader)
        return Answer(status, body, headers, time.perf_counter() - started)
    except TimeoutError:
        return Answer("hang", seconds=time.perf_counter() - started)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        return Answer("cut", seconds=time.perf_counter() - started)
    finally:
        if writer is not None:
            writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
    """Status, headers and body of the next answer on a connection."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = tuple(
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)
    )
    length = next((value for name, value in headers if name == "content-length"), None)
    body = await reader.readexactly(int(length)) if length is not None else b""
    return first.split()[1], headers, body
