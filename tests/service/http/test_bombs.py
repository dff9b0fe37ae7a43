"""A body that would make a parser do much work is refused in little time, and not on the event loop."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine
from tests.service.http.bombs import BOMBS, JSON, Bomb

SECONDS = 1.0  # of CPU, of all threads
LOOP_SECONDS = 0.1  # of CPU, of the event loop and of the client of this test


class Cost:
    """CPU seconds of all threads, and of the thread that measures."""

    total = own = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """The cost of what is done within; garbage of other tests is not collected meanwhile."""
    cost = Cost()
    gc.disable()
    try:
        total, own = time.process_time(), time.thread_time()
        yield cost
        cost.total, cost.own = time.process_time() - total, time.thread_time() - own
    finally:
        gc.enable()


@pytest.mark.parametrize("path", ["/v1/score", "/v1/detectors", "/v1/banks"])
@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
async def test_a_bomb_is_refused_at_little_cost(tmp_path: Path, bomb: Bomb, path: str) -> None:
    engine = FakeEngine()
    app = create_app(Settings(data=tmp_path, encoders=engine.encoder_names()), engine)
    content = bomb.make()
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        with measured() as cost:
            answer = await client.post(path, content=content, headers={"Content-Type": bomb.kind})
    assert cost.total < SECONDS
    assert cost.own < LOOP_SECONDS
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json().get("errors") or ()) <= 20
    assert len(answer.content) < 16_000
    if path == "/v1/score":
        assert answer.status_code == bomb.status, answer.text
    elif path == "/v1/detectors" and bomb.kind != JSON:
        assert answer.status_code == 415, answer.text
    else:
        assert answer.status_code in {400, 413, 422}, answer.text
