"""The server's life: it listens while it starts, ends when the start fails, and stops in a bounded time."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.server import STOP_S, Server
from service.settings import Settings
from tests.service.fakes import FakeEngine, files, png
from tests.service.running import LONG, running_server
from tests.service.sockets import answer, connected, received, request, wait_for_refusal

DRAIN_S = 1.0


Serve = Callable[..., tuple[str, Server]]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def serve(tmp_path: Path, engine: FakeEngine) -> Iterator[Serve]:
    """Start a server whose engine starts beside."""
    with ExitStack() as servers:

        def begin(**more: Any) -> tuple[str, Server]:
            own = Settings(data=tmp_path, encoders=engine.encoder_names(), drain_s=DRAIN_S, **more)
            url, server = servers.enter_context(running_server(create_app(own, engine, start_beside=True), own, LONG))
            if engine.may_start.is_set():
                assert 200 in (httpx.get(f"{url}/readyz").status_code for _ in range(1000))
            return url, server

        yield begin


def stop(server: Server) -> float:
    """Stop the server; the seconds that it takes."""
    thread = next(each for each in threading.enumerate() if getattr(each, "_target", None) == server.run)
    began = time.monotonic()
    server.should_exit = True
    thread.join(60)
    return time.monotonic() - began


def test_alive_from_the_first_moment_and_ready_when_started(serve: Serve, engine: FakeEngine) -> None:
    engine.may_start.clear()
    url, _ = serve()
    with httpx.Client(base_url=url) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/metrics").status_code == 200
        for path in ("/readyz", "/v1/methods"):
            early = client.get(path)
            assert (early.status_code, early.headers["retry-after"]) == (503, "5")
            assert early.json()["type"] == "urn:vlm-ood:problem:not-ready"
            assert "starting" in early.json()["detail"]
        engine.let(engine.may_start)
        assert 200 in (client.get("/readyz").status_code for _ in range(1000))
        assert client.get("/v1/methods").status_code == 200


def test_a_start_that_is_told_to_stop_stops_at_once(serve: Serve, engine: FakeEngine) -> None:
    engine.may_start.clear()
    _, server = serve()
    assert stop(server) < STOP_S
    assert not engine.running
    assert not engine.may_start.is_set()


def test_an_idle_server_stops_at_once(serve: Serve) -> None:
    url, server = serve()
    with connected(url) as connection:
        connection.sendall(request("GET", "/livez"))
        answer(connection)
        assert stop(server) < STOP_S
        assert connection.recv(1) == b""


def test_what_was_admitted_is_answered_before_the_stop(serve: Serve, engine: FakeEngine) -> None:
    engine.gate.clear()
    url, server = serve()
    with connected(url) as connection:
        connection.sendall(scoring())
        assert engine.began.wait(10)
        server.should_exit = True
        wait_for_refusal(url)
        engine.let(engine.gate)
        assert received(connection).startswith(b"HTTP/1.1 200")


def test_what_is_not_done_in_time_is_503(serve: Serve, engine: FakeEngine) -> None:
    engine.gate.clear()
    url, server = serve()
    with connected(url) as connection:
        connection.sendall(scoring())
        assert engine.began.wait(10)
        assert stop(server) < DRAIN_S + STOP_S
        cut = received(connection)
    assert cut.startswith(b"HTTP/1.1 503")
    assert b"urn:vlm-ood:problem:draining" in cut


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_an_upload_that_is_not_complete_in_time_is_503(serve: Serve, kind: str) -> None:
    url, server = serve()
    upload = request("POST", "/v1/score", f"Content-Type: {kind}", "Content-Length: 1000", "Expect: 100-continue")
    with connected(url) as connection:
        connection.sendall(upload)
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(b"--b\r\n")
        assert stop(server) < DRAIN_S + STOP_S
        cut = received(connection)
    assert cut.startswith(b"HTTP/1.1 503")
    assert b"urn:vlm-ood:problem:draining" in cut


def test_a_reader_that_does_not_read_does_not_hold_the_stop(serve: Serve) -> None:
    url, server = serve()
    with connected(url, receive_buffer=4096) as connection:
        connection.sendall(30 * request("GET", "/openapi.json"))
        assert connection.recv(1) == b"H"
        assert stop(server) < DRAIN_S + STOP_S


def test_a_request_whose_head_has_begun_is_told_of_the_stop(serve: Serve, engine: FakeEngine) -> None:
    engine.gate.clear()
    url, server = serve()
    with connected(url) as other, connected(url) as connection:
        other.sendall(scoring())
        assert engine.began.wait(10)
        head = request("GET", "/v1/methods")
        connection.sendall(request("GET", "/livez") + head[:10])
        answer(connection)
        server.should_exit = True
        wait_for_refusal(url)
        connection.sendall(head[10:])
        told = received(connection)
        engine.let(engine.gate)
    assert told.startswith(b"HTTP/1.1 503")
    assert b"connection: close" in told.lower()
    assert b"urn:vlm-ood:problem:draining" in told


def scoring() -> bytes:
    """A request with an image."""
    asked = httpx.Request("POST", "http://a/v1/score", files=files(png()), data={"classes": ["red", "blue"]})
    headers = [f"{name}: {asked.headers[name]}" for name in ("content-type", "content-length")]
    return request("POST", "/v1/score", *headers, body=asked.read())


def test_a_stop_that_takes_too_long_is_told(serve: Serve, engine: FakeEngine) -> None:
    engine.may_start.clear()
    _, server = serve()
    overdue = threading.Event()
    server._overdue = overdue.set
    server.handle_exit(signal.SIGTERM, None)
    assert overdue.wait(10)
