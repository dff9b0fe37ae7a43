"""What is answered before the application is imported, and how its sockets are handed over."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service import first_answers
from service.engine import NotReady
from service.first_answers import CONNECTIONS, HEAD_BYTES, STARTING, FirstAnswers
from service.problems import response_to
from service.settings import Settings, SettingsError
from service.start import listen, serve
from service.start_time import StartTime
from tests.conftest import ROOT

WAIT_S = 7.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is closed for its time within a test."""
    monkeypatch.setattr(first_answers, "CONNECTION_S", 60.0)


@pytest.fixture
def first() -> Iterator[FirstAnswers]:
    with FirstAnswers(listen("127.0.0.1", 0), lambda: WAIT_S) as first:
        yield first


def connect(first: FirstAnswers) -> socket.socket:
    return socket.create_connection(first._listeners[0].getsockname(), timeout=30)


def received(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of all that comes until the end."""
    content = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = content.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


def asked(first: FirstAnswers, request: bytes) -> tuple[str, dict[str, str], bytes]:
    with connect(first) as connection:
        connection.sendall(request)
        return received(connection)


def test_it_lives(first: FirstAnswers) -> None:
    status, headers, body = asked(first, b"GET /livez?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert json.loads(body) == {"status": "alive"}
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)


@pytest.mark.parametrize(
    "line", [b"GET /readyz HTTP/1.1", b"POST /livez HTTP/1.1", b"GET /livez/ HTTP/1.1", b"GET", b"", b"\xff\x00 \xff"]
)
def test_all_else_is_answered_as_the_application_does_while_it_starts(first: FirstAnswers, line: bytes) -> None:
    status, headers, body = asked(first, line + b"\r\nContent-Length: 9999\r\n\r\nsome of it")
    theirs = response_to(NotReady(STARTING, WAIT_S), headers["x-request-id"])
    assert status.split()[1] == str(theirs.status_code)
    assert json.loads(body) == json.loads(bytes(theirs.body))
    assert {name: headers[name] for name in ("retry-after", "content-type")} == {
        name: theirs.headers[name] for name in ("retry-after", "content-type")
    }


def test_a_head_without_end_is_not_kept(first: FirstAnswers) -> None:
    with connect(first) as connection:
        connection.sendall(b"a" * (HEAD_BYTES + 1))
        with suppress(ConnectionResetError):  # of what it didn't read
            assert connection.recv(1) == b""


def test_a_slow_head_is_closed(monkeypatch: pytest.MonkeyPatch, first: FirstAnswers) -> None:
    monkeypatch.setattr(first_answers, "CONNECTION_S", 0.01)
    with connect(first) as connection:
        connection.sendall(b"GET /livez")
        assert connection.recv(1) == b""


def test_connections_that_ask_nothing_make_room(first: FirstAnswers) -> None:
    idle = [connect(first) for _ in range(CONNECTIONS + 1)]
    assert idle[0].recv(1) == b""
    assert asked(first, b"GET /livez HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 200 OK"
    for each in idle:
        each.close()


def test_no_connection_is_lost_when_the_sockets_are_handed_over(first: FirstAnswers) -> None:
    with connect(first) as before, connect(first) as during:
        before.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert received(before)[0] == "HTTP/1.1 200 OK"
        during.sendall(b"GET /livez")
        address = first._listeners[0].getsockname()
        asked(first, b"GET /livez HTTP/1.1\r\n\r\n")  # so that `during` is accepted
        (listener,) = first.hand_over()
        with listener, socket.create_connection(address, timeout=30) as after:
            during.sendall(b" HTTP/1.1\r\n\r\n")
            assert received(during)[0] == "HTTP/1.1 200 OK"
            after.sendall(b"x")
            listener.setblocking(True)
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(1) == b"x"


def test_it_answers_before_the_server_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = []

    def run(settings: Settings, first: FirstAnswers, start: StartTime) -> None:
        ran.append(asked(first, b"GET /livez HTTP/1.1\r\n\r\n")[0])

    monkeypatch.setattr("service.run.run", run)
    serve(Settings(data=tmp_path, port=0))
    assert ran == ["HTTP/1.1 200 OK"]


@pytest.mark.parametrize("modules", ["vlm_ood.cli.serve, service.start", "service.__main__"])
def test_nothing_slow_is_imported_before_it_answers(modules: str) -> None:
    slow = "{'torch', 'numpy', 'fastapi', 'sqlalchemy', 'service.run'}"
    code = f"import sys, {modules}; print(sorted({slow} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_port_in_use_is_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("service.run.run", lambda *_: pytest.fail("it runs"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} of 127\.0\.0\.1 is in use: .* --port"):
            serve(Settings(data=tmp_path, port=port))


def test_a_host_that_is_not_ours_is_told() -> None:
    with pytest.raises(SettingsError, match=r"can't listen on 192\.0\.2\.1, port 0: .* --host"):
        listen("192.0.2.1", 0)


def test_the_sockets_are_closed_when_the_start_fails() -> None:
    (listener,) = listeners = listen("127.0.0.1", 0)
    with FirstAnswers(listeners, lambda: WAIT_S):
        pass
    assert listener.fileno() == -1
