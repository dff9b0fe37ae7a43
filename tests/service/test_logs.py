"""Log lines: one line of JSON each, without control characters, secrets, or texts without end."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from service.observability import logs
from service.observability.sanitising import MAX_TEXT, MAX_TRACEBACK
from tests.service.conftest import Start, services_of
from tests.service.fakes import files, png

Lines = Callable[[], list[dict[str, Any]]]
Begin = Callable[[], Lines]
HOSTILE = 'a\x1b[31m\r\n{"event": "forged"}\x00\u202e\x9b'


@pytest.fixture
def logging_begins(capsys: pytest.CaptureFixture[str]) -> Iterator[Begin]:
    """Configure logs as the server does; gives the function that returns the lines since its last call."""
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def begin() -> Lines:  # in the test itself: pytest adds handlers of its own before it
        logs.configure("debug")
        structlog.configure(cache_logger_on_first_use=False)  # loggers of modules would keep it for other tests
        capsys.readouterr()  # errors of a handler that another test left, whose stream is closed
        return lambda: parsed(capsys.readouterr().err)

    yield begin
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


def parsed(text: str) -> list[dict[str, Any]]:
    assert all(line.startswith("{") for line in text.splitlines()), text
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("library", [False, True])
def test_control_characters_are_escaped(logging_begins: Begin, library: bool) -> None:
    logged = logging_begins()
    if library:
        logging.getLogger("some.library").warning("%s", HOSTILE)
    else:
        structlog.get_logger("x").warning(HOSTILE, value=HOSTILE, more=[HOSTILE, {HOSTILE: HOSTILE}])
    (line,) = logged()
    assert line["event"] == 'a\\x1b[31m\\r\\n{"event": "forged"}\\x00\\u202e\\x9b'
    if not library:
        assert line["value"] == line["more"][0] == line["event"]
        assert line["more"][1] == {line["event"]: line["event"]}


def test_tracebacks_keep_their_lines_and_lose_control_characters(logging_begins: Begin) -> None:
    logged = logging_begins()
    try:
        raise ValueError(HOSTILE + "x" * 100_000)
    except ValueError:
        structlog.get_logger("x").exception("failed")
    (line,) = logged()
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "\x1b" not in line["exception"]
    assert len(line["exception"]) <= MAX_TRACEBACK + 200


def test_long_texts_are_cut_and_keep_their_end(logging_begins: Begin) -> None:
    logged = logging_begins()
    structlog.get_logger("x").warning("x" * 10_000 + "why", items=list(range(10_000)))
    (line,) = logged()
    assert len(line["event"]) <= MAX_TEXT + 10
    assert line["event"].endswith("why")
    assert len(line["items"]) == 100


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer vo_0123456789ab_AbC-d_e", "Authorization: Bearer ***"),
        ("{'authorization': 'bearer abc'}", "{'authorization': 'bearer ***'}"),
        ("key vo_0123456789ab_AbC-d_e, gone", "key vo_***, gone"),
        ("https://user:pa:ss@host/a?b", "https://***@host/a?b"),
        ("postgresql+psycopg://me:secret@db/x", "postgresql+psycopg://***@db/x"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_secrets_are_left_out(logging_begins: Begin, text: str, shown: str) -> None:
    logged = logging_begins()
    try:
        raise RuntimeError(text)
    except RuntimeError:
        structlog.get_logger("x").exception(text, value=text)
    (line,) = logged()
    assert line["event"] == line["value"] == shown
    assert line["exception"].endswith(shown)
    assert line["exception"].count(text) == (shown == text)


def test_a_request_is_logged_without_what_its_caller_wrote(
    start: Start, logging_begins: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    _, token = services_of(client).keys.create("a", ["score", "manage"])
    header = {"Authorization": f"Bearer {token}"}

    def bug(*_: object) -> None:
        raise RuntimeError(f"with {token} in its message")

    logged = logging_begins()
    client.get("/nothing/%0d%0asecret?secret", headers=header)
    client.request("SECRET", "/v1/methods/secret", headers=header)
    fields = {"classes": ["secret", "blue"]}
    client.post("/v1/score", files=[("images", ("secret.png", png(), "image/png"))], data=fields, headers=header)
    client.post("/v1/score", files=files(b"secret"), data=fields, headers=header | {"X-Request-ID": "secret\x01"})
    monkeypatch.setattr("service.routes.score.checked_spec", bug)
    assert client.post("/v1/score", files=files(png()), data=fields, headers=header).status_code == 500
    lines = [line for line in logged() if not line["event"].startswith("HTTP Request:")]  # of the test's own client
    text = json.dumps(lines)
    assert [line["status"] for line in lines if line["event"] == "request"] == [404, 405, 200, 200, 500]
    assert [line["method"] for line in lines if line["event"] == "request"][1] == "other"
    assert "secret" not in text.lower()
    assert token not in text
    assert "vo_*** in its message" in text
