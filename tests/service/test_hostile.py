"""Harmful requests among valid ones, on the real engine: no server error, no hang, and the valid ones succeed."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest

from service.app import create_app
from service.engine import LocalEngine
from service.settings import Settings
from tests.fakes import FakeEncoder
from tests.hostile_images import photograph
from tests.service.hostile import CLASSES, Hostile, requests
from vlm_ood.encoders.base import Encoder
from vlm_ood.encoders.device import Precision

VALID, HARMFUL, AT_ONCE = 200, 200, 16


def load(name: str, device: str, dtype: Precision) -> Encoder:
    """A fake for the worker."""
    return FakeEncoder(name=name)


@pytest.mark.slow
async def test_harmful_requests_are_answered_and_do_not_affect_others(tmp_path: Path) -> None:
    random = Random(0)
    settings = Settings(data=tmp_path, workers="inline", encoders=("fake",), deadline_s=60, max_json_bytes=2**20)
    app = create_app(settings, LocalEngine(replace(settings.engine(), load=load)))
    valid = {"files": [("images", ("a.jpg", photograph(random)))], "data": {"classes": CLASSES}}
    todo = [Hostile("valid", sent=valid)] * VALID + list(itertools.islice(requests(random), HARMFUL))
    random.shuffle(todo)
    gate = asyncio.Semaphore(AT_ONCE)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, timeout=120) as client:

        async def send(request: Hostile) -> tuple[str, int, str]:
            async with gate:
                answer = await client.request(request.method, f"http://127.0.0.1{request.path}", **request.sent)
                return request.name, answer.status_code, answer.text[:300]

        answers = await asyncio.wait_for(asyncio.gather(*map(send, todo)), timeout=240)
    assert not [answer for answer in answers if answer[1] >= 500]
    assert [status for name, status, _ in answers if name == "valid"] == [200] * VALID
    assert len({name for name, _, _ in answers}) > 15
