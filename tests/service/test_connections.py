"""Real sockets: connections with slow or too large heads are closed; others on the same server are answered."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.security.connections import GuardedProtocol
from service.settings import Settings
from tests.service.fakes import FakeEngine, files, png
from tests.service.running import running


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(GuardedProtocol, "head_timeout_s", 0.3)
    engine = FakeEngine()
    settings = Settings(data=tmp_path, encoders=engine.encoder_names(), drain_s=1)
    with running(create_app(settings, engine), settings) as url:
        yield url


def connect(url: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=10)
    connection.settimeout(10)
    return connection


@pytest.mark.parametrize("head", [b"", b"GET /livez HTTP/1.1\r\nHost: 127"])
def test_a_head_that_does_not_come_closes_the_connection(url: str, head: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(head)
        assert connection.recv(100) == b""


def test_the_second_head_of_a_connection_is_timed_too(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /li")
        received = b""
        while part := connection.recv(10_000):
            received += part
        assert received.startswith(b"HTTP/1.1 200")


def test_a_head_without_end_closes_the_connection(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):
            send_without_end(connection)


def send_without_end(connection: socket.socket) -> None:
    """Ten megabytes of a header."""
    for _ in range(1000):
        connection.sendall(b"x" * 10_000)
    if connection.recv(100) == b"":
        raise ConnectionError("closed by the server")


def test_a_valid_request_over_a_real_socket_is_answered(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        for _ in range(3):
            answer = client.post("/v1/score", files=files(png()), data={"classes": ["red", "blue"]})
            assert answer.status_code == 200


def test_a_declared_length_over_the_limit_is_answered_before_the_body(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1099511627776\r\n\r\nx")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
