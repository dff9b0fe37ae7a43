"""The limits on a body hold while it arrives, for every Content-Length header."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from service.security.bodies import BodyLimits, BodyMiddleware
from service.security.budget import ByteBudget
from tests.service.conftest import Start
from tests.service.fakes import files, png

BODY = {"classes": ["red", "blue"]}


def test_a_declared_length_over_the_limit_is_refused_unread(start: Start) -> None:
    client = start(max_body_bytes=1000)
    answer = client.post("/v1/score", content=b"x", headers={"content-length": "1001", "content-type": "text/plain"})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def test_the_limit_holds_without_a_declared_length(start: Start) -> None:
    client = start(max_body_bytes=5000, max_json_bytes=1000)
    form, json = "multipart/form-data; boundary=b", "application/json"

    def status(path: str, kind: str, chunks: int) -> int:
        return client.post(path, content=iter([b" " * 900] * chunks), headers={"content-type": kind}).status_code

    assert status("/v1/score", form, 6) == 413
    assert status("/v1/score", form, 5) == 400, "within the limit it is read, and is no form"
    for path in ("/v1/score", "/v1/detectors", "/v1/banks"):
        for kind in (json, "application/json; charset=utf-8", "application/problem+json"):
            assert status(path, kind, 2) == 413, "the limit of JSON is its own"
            assert status(path, kind, 1) == 422
    answer = client.post("/v1/score", content=iter([b" " * 900] * 6), headers={"content-type": form})
    assert answer.json()["type"].endswith("body-too-large")


def test_a_file_within_the_limit_passes(start: Start) -> None:
    client = start(max_body_bytes=5000)
    assert client.post("/v1/score", files=files(png()), data=BODY).status_code == 200


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "²", "0x10"])
def test_a_length_that_is_no_number_is_400(client: TestClient, length: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", length.encode())]
    assert client.post("/v1/score", content=iter([b"{}"]), headers=headers).status_code == 400


class Application:
    """Reads the whole body and says how long it was."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length, more = 0, True
        while more:
            message = await receive()
            length += len(message["body"])
            more = message["more_body"]
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(length).encode()})


async def ask(app: BodyMiddleware, *chunks: bytes, pause: asyncio.Event | None = None) -> int:
    """The status for a body in these chunks; after the last one the client hangs on until `pause` is set."""
    sent: list[Message] = []

    async def stream() -> AsyncIterator[Message]:
        for row, chunk in enumerate(chunks):
            last = row == len(chunks) - 1 and pause is None
            yield {"type": "http.request", "body": chunk, "more_body": not last}
        if pause is not None:
            await pause.wait()

    messages = stream()

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await app(scope, messages.__anext__, send)
    return int(sent[0]["status"])


async def test_a_body_that_trickles_is_408() -> None:
    app = BodyMiddleware(Application(), BodyLimits(100, 100, ByteBudget(1000), timeout_s=0.01))
    assert await ask(app, b"x", pause=asyncio.Event()) == 408


async def test_a_body_that_pauses_is_408() -> None:
    app = BodyMiddleware(Application(), BodyLimits(100, 100, ByteBudget(1000), timeout_s=60, pause_s=0.01))
    assert await ask(app, b"x", pause=asyncio.Event()) == 408


async def test_all_bodies_together_are_bounded_and_given_back() -> None:
    application = Application()
    application.gate.clear()
    budget = ByteBudget(150)
    app = BodyMiddleware(application, BodyLimits(100, 100, budget, timeout_s=5))
    first = asyncio.create_task(ask(app, b"x" * 100))
    await asyncio.sleep(0)
    while not first.done() and budget.used < 100:
        await asyncio.sleep(0)
    assert await ask(app, b"x" * 100) == 503
    application.gate.set()
    assert await first == 200
    assert budget.used == 0
    assert await ask(app, b"x" * 100) == 200
