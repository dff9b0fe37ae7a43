"""The work of a request ends when its client disconnects, in the middle of its body or while it waits."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine, files, png
from tests.service.running import LONG, running
from tests.service.sockets import connected, request


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def url(tmp_path: Path, engine: FakeEngine) -> Iterator[str]:
    settings = Settings(data=tmp_path, encoders=engine.encoder_names(), drain_s=1)
    with running(create_app(settings, engine), settings, LONG) as url:
        yield url


def score() -> httpx.Request:
    return httpx.Request("POST", "http://127.0.0.1/v1/score", files=files(png()), data={"classes": ["red", "blue"]})


def test_the_work_for_a_caller_who_left_is_cancelled_and_others_are_served(url: str, engine: FakeEngine) -> None:
    engine.gate.clear()
    asked = score()
    headers = [f"{name}: {asked.headers[name]}" for name in ("content-type", "content-length")]
    with connected(url) as connection:
        connection.sendall(request("POST", "/v1/score", *headers, body=asked.read()))
        assert engine.began.wait(10)
        assert not engine.ended.is_set()
    assert engine.ended.wait(10)
    engine.let(engine.gate)
    with httpx.Client(base_url=url) as other:
        assert other.post("/v1/score", files=files(png()), data={"classes": ["red", "blue"]}).status_code == 200
        assert statuses(other, "/v1/score") == {"499": 1, "200": 1}


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_a_caller_who_leaves_in_the_middle_of_the_body_is_a_499_without_a_traceback(
    url: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(url) as connection:
        connection.sendall(
            request("POST", "/v1/score", f"Content-Type: {kind}", "Content-Length: 1000", "Expect: 100-continue")
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100")  # the application reads the body
        connection.sendall(b"--b\r\n")
    with httpx.Client(base_url=url) as other:
        for _ in range(1000):
            if found := statuses(other, "/v1/score"):
                break
    assert found == {"499": 1}
    logged = capsys.readouterr().out
    assert "Traceback" not in logged
    assert "client left" in logged


def statuses(client: httpx.Client, route: str) -> dict[str, int]:
    """{status: how many requests of the route} from the metrics."""
    pattern = rf'vlm_ood_http_requests_total{{method="POST",route="{route}",status="(\d+)"}} (\d+)'
    return {status: int(count) for status, count in re.findall(pattern, client.get("/metrics").text)}
