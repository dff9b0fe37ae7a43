"""Servers that are functions, and a clock that does not wait."""

from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes

import httpx

from vlm_ood.client import Client, Retries

URL = "http://127.0.0.1:8000"

Handler = Callable[[httpx.Request], httpx.Response]


@dataclass
class FakeClock:
    """A clock that moves only when a caller sleeps."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def client_of(handler: Handler, clock: FakeClock, retries: Retries | None = None) -> Client:
    """A client of a server that is this function."""
    transport = httpx.MockTransport(handler)
    return Client(URL, transport=transport, retries=retries or Retries(), clock=lambda: clock.now, sleep=clock.sleep)


def answer_to(request: httpx.Request) -> httpx.Response:
    """A valid answer: a score per image."""
    count = request.content.count(b'name="images"')
    results = [{"index": row, "image": str(row), "score": float(row), "reason": "because"} for row in range(count)]
    return httpx.Response(200, json={"method": "mcm", "encoder": "fake", "detector": None, "results": results})


def in_turn(*replies: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives the replies and then valid answers, and the list of requests that it got."""
    left, seen = list(replies), []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        reply = left.pop(0) if left else answer_to(request)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return handle, seen


def parts_of(request: httpx.Request) -> dict[str, list[bytes]]:
    """The parts of a form, by name, in their order."""
    header = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    parts: dict[str, list[bytes]] = {}
    for part in message_from_bytes(header + request.content).walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            parts.setdefault(str(part.get_param("name", header="Content-Disposition")), []).append(content)
    return parts
