"""Real sockets: every state of a connection has a limit, and others on the same server are answered."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.app import create_app
from service.run import server_of
from service.security.intake import PART_BYTES
from service.settings import Settings
from tests.service.fakes import FakeEngine, files, png
from tests.service.running import LONG, running
from tests.service.sockets import answer, connected, received, request, reset

Serve = Callable[..., str]
CHUNKED = request("POST", "/echo", "Transfer-Encoding: chunked")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def serve(tmp_path: Path, engine: FakeEngine) -> Iterator[Serve]:
    """Start a server; it has all time for what isn't named."""
    with ExitStack() as servers:

        def begin(*, settings: dict[str, Any] | None = None, **seconds: float) -> str:
            chosen: dict[str, Any] = {"data": tmp_path, "encoders": engine.encoder_names(), "drain_s": 1}
            own = Settings(**chosen | (settings or {}))
            app = create_app(own, engine)
            app.add_route("/echo", echo, methods=["POST"])
            app.add_route("/never", never, methods=["POST"])
            app.add_route("/large", large)
            return servers.enter_context(running(app, own, replace(LONG, **seconds)))

        yield begin


async def echo(asked: Request) -> Response:
    return JSONResponse({"body": len(await asked.body()), "headers": sorted(asked.headers)})


async def never(asked: Request) -> Response:
    """Neither reads the body nor answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def large(asked: Request) -> Response:
    return Response(b"x" * 50_000_000)


@pytest.mark.parametrize("head", [b"", b"GET /livez HTTP/1.1\r\nHost: 127"])
def test_a_head_that_does_not_come_closes_the_connection(serve: Serve, head: bytes) -> None:
    with connected(serve(head_s=0.2)) as connection:
        connection.sendall(head)
        assert received(connection) == b""


def test_the_second_head_of_a_connection_is_timed_too(serve: Serve) -> None:
    with connected(serve(head_s=0.2)) as connection:
        connection.sendall(request("GET", "/livez") + b"GET /li")
        assert received(connection).startswith(b"HTTP/1.1 200")


def test_a_connection_without_a_next_request_is_closed(serve: Serve) -> None:
    with connected(serve(keep_alive_s=0.2)) as connection:
        connection.sendall(request("GET", "/livez"))
        assert received(connection).startswith(b"HTTP/1.1 200")


def test_a_head_without_end_is_431(serve: Serve) -> None:
    with connected(serve()) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 10_000_000)
        assert answer(connection).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("headers", [["X: " + "x" * 70_000], [f"X-{row}: x" for row in range(200)]])
def test_a_head_that_comes_at_once_has_the_same_limits(serve: Serve, headers: list[str]) -> None:
    with connected(serve()) as connection:
        connection.sendall(request("GET", "/livez", *headers))
        assert answer(connection).startswith(b"HTTP/1.1 431")


def test_what_is_no_http_is_a_problem(serve: Serve) -> None:
    with connected(serve()) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        refused = received(connection)
    assert refused.startswith(b"HTTP/1.1 400")
    assert b"urn:vlm-ood:problem:malformed-request" in refused


def test_the_rest_of_a_body_after_the_answer_has_a_limit(serve: Serve) -> None:
    with connected(serve(unread_s=0.2)) as connection:
        connection.sendall(request("GET", "/livez", "Content-Length: 1000000", body=b"x"))
        assert received(connection).startswith(b"HTTP/1.1 200")


def test_a_body_that_is_not_read_has_a_limit(serve: Serve) -> None:
    with connected(serve(body_s=0.2)) as connection:
        connection.sendall(request("POST", "/never", "Content-Length: 1000000", body=b"x"))
        assert received(connection) == b""


def test_an_answer_that_is_not_read_has_a_limit(serve: Serve) -> None:
    with connected(serve(write_s=0.2), receive_buffer=4096) as connection:
        connection.sendall(request("GET", "/large"))
        assert reset(connection)


def test_answers_in_a_pipeline_that_are_not_read_have_a_limit(serve: Serve) -> None:
    with connected(serve(write_s=0.2), receive_buffer=4096) as connection:
        connection.sendall(30 * request("GET", "/large"))
        assert reset(connection)


def test_an_answer_that_is_read_slowly_arrives(serve: Serve) -> None:
    with connected(serve(write_s=0.2), receive_buffer=4096) as connection:
        connection.sendall(request("GET", "/large", "Connection: close"))
        assert len(received(connection)) > 50_000_000


def test_requests_in_a_pipeline_are_few(serve: Serve) -> None:
    with connected(serve()) as connection:
        connection.sendall(request("POST", "/never") + 100 * request("GET", "/livez"))
        assert reset(connection)


def test_a_pipeline_is_answered_in_order(serve: Serve) -> None:
    with connected(serve()) as connection:
        connection.sendall(
            request("GET", "/livez") + request("GET", "/v1/nothing") + request("GET", "/livez", "Connection: close")
        )
        statuses = [part[:3] for part in received(connection).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"]


def test_trailers_are_limited_and_never_become_headers(serve: Serve) -> None:
    url = serve()
    with connected(url) as connection:
        connection.sendall(CHUNKED + b"2\r\nab\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        echoed = answer(connection)
    assert echoed.startswith(b"HTTP/1.1 200")
    assert b"authorization" not in echoed
    with connected(url) as connection:
        connection.sendall(CHUNKED + b"2\r\nab\r\n0\r\n")
        connection.sendall(b"X: " + b"x" * 1_000_000)
        assert answer(connection).startswith(b"HTTP/1.1 400")


def test_chunk_extensions_are_limited_and_small_chunks_are_not(serve: Serve) -> None:
    url = serve()
    with connected(url) as connection:
        connection.sendall(CHUNKED)
        connection.sendall(b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
        assert b'"body":50000' in answer(connection)
    with connected(url) as connection:
        connection.sendall(CHUNKED)
        connection.sendall(b"1;e=" + b"x" * 1_000_000)
        assert answer(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "sent",
    [
        request("GET", "/livez", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 40_000,
        30 * request("GET", "/livez", "X: " + "x" * 60),
    ],
)
async def test_one_read_is_parsed_in_turns(
    sent: bytes, tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = 0
    parse = HttpToolsProtocol.data_received

    def counted(protocol: HttpToolsProtocol, data: bytes) -> None:
        nonlocal parsed
        parsed += len(data)
        parse(protocol, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", counted)
    settings = Settings(data=tmp_path, encoders=engine.encoder_names())
    config = server_of(create_app(settings, engine), settings).config
    config.load()
    made_by: Any = config.http_protocol_class
    protocol = made_by(config=config, server_state=ServerState(), app_state={})
    transport = Mock(get_extra_info=Mock(return_value=None), is_closing=Mock(return_value=False))
    transport.get_write_buffer_size.return_value = 0
    protocol.connection_made(transport)
    protocol.data_received(sent)
    for turn in range(1, 1 + len(sent) // PART_BYTES):
        assert parsed == turn * PART_BYTES
        await asyncio.sleep(0)
    assert parsed == len(sent)


def test_a_request_for_another_protocol_is_answered_in_this_one(serve: Serve) -> None:
    with connected(serve()) as connection:
        connection.sendall(request("GET", "/livez", "Connection: Upgrade", "Upgrade: websocket"))
        assert answer(connection).startswith(b"HTTP/1.1 200")


def test_a_valid_request_over_a_real_socket_is_answered(serve: Serve) -> None:
    with httpx.Client(base_url=serve()) as client:
        for _ in range(3):
            scored = client.post("/v1/score", files=files(png()), data={"classes": ["red", "blue"]})
            assert scored.status_code == 200


def test_a_refusal_arrives_although_the_body_is_not_read(serve: Serve) -> None:
    with connected(serve()) as connection:
        connection.sendall(request("POST", "/v1/score", "Content-Length: 1099511627776", body=b"x" * 5_000_000))
        assert received(connection).startswith(b"HTTP/1.1 413")


def test_health_is_answered_while_every_place_is_taken(serve: Serve, engine: FakeEngine) -> None:
    url = serve(settings={"max_connections": 3})
    upload = request("POST", "/v1/score", "Content-Type: application/json", "Content-Length: 1000", body=b"{")
    with ExitStack() as clients:
        for _ in range(3):
            client = clients.enter_context(connected(url))
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer(client)
            client.sendall(upload)
        with httpx.Client(base_url=url) as other:
            for path in ("/livez", "/readyz", "/metrics"):
                assert other.get(path).status_code == 200
            full = other.get("/v1/methods")
            assert (full.status_code, full.headers["retry-after"], full.headers["connection"]) == (503, "1", "close")
            assert full.json()["type"] == "urn:vlm-ood:problem:busy"
            assert 'vlm_ood_http_connections{place="ordinary"} 3.0' in other.get("/metrics").text
    with httpx.Client(base_url=url) as other:
        assert 200 in (other.get("/v1/methods").status_code for _ in range(1000))  # until it has seen that they left
