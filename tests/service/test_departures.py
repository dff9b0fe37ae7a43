"""The work of a request is cancelled when its client disconnects."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
from starlette.types import Message

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine, files, png


async def test_the_work_for_a_caller_who_left_is_cancelled(tmp_path: Path) -> None:
    engine = FakeEngine()
    app = create_app(Settings(data=tmp_path, encoders=engine.encoder_names()), engine)
    request = httpx.Request("POST", "http://127.0.0.1/v1/score", files=files(png()), data={"classes": ["red", "blue"]})
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/score",
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": request.read(), "more_body": False})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async with app.router.lifespan_context(app):
        engine.gate.clear()
        answering = asyncio.create_task(app(scope, messages.get, send))
        await engine.encoding.wait()
        messages.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(answering, timeout=10)
    assert engine.cancelled == 1
    assert not sent
