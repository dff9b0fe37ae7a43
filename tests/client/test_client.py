"""The client against the real application, and against transports that misbehave."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from service.app import create_app
from service.security.keys import KeyStore
from service.settings import Settings
from service.storage.database import Database
from tests.client.transports import URL, FakeClock, client_of, in_turn
from tests.service.fakes import FakeEngine, png
from tests.service.running import running
from vlm_ood.cli import build
from vlm_ood.client import AsyncClient, Client, Retries
from vlm_ood.client.retries import retry_after_s
from vlm_ood.errors import ImageError, InputError, ServerError

CLASSES = ["red", "lime"]
COLOURS = ("red", "lime", "blue")


@asynccontextmanager
async def connected(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[AsyncClient]:
    """A client of a real application, without a socket."""
    app = create_app(Settings(data=tmp_path / "data", encoders=engine.encoder_names()), engine)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(URL, transport=httpx.ASGITransport(app)) as client,
    ):
        yield client


async def test_the_application_scores_paths_bytes_and_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png("red"))
    async with connected(tmp_path, FakeEngine()) as client:
        answer = await client.score(
            [tmp_path / "a.png", png("lime"), ("c", png("blue"))],
            classes=CLASSES,
            method="mcm",
            parameters={"temperature": 0.5},
            encoder="other",
            templates=["a {}", "the {}"],
            top=1,
            threshold=-0.75,
        )
    assert [result.image for result in answer.results] == [str(tmp_path / "a.png"), "image 2", "c"]
    for result in answer.results:
        assert result.score is not None
        assert result.decision == ("out" if result.score > -0.75 else "in")
        assert len(result.classes) == 1
    assert (answer.encoder, answer.method, answer.note) == ("other", "mcm", None)
    assert answer.timings.keys() == {"queue", "decode", "encode", "score"}
    assert answer.timings["decode"] == pytest.approx(0.002)


async def test_a_broken_file_is_the_error_of_one_item(tmp_path: Path) -> None:
    async with connected(tmp_path, FakeEngine()) as client:
        answer = await client.score(
            [tmp_path / "none.png", ("broken", b"not an image"), ("good", png())], classes=CLASSES
        )
    missing, broken, good = answer.results
    assert missing.score is None
    assert "no such file" in (missing.error or "")
    assert "not an image" in (broken.error or "")
    assert good.error is None
    assert good.score is not None
    assert answer.note is not None
    assert answer.note.startswith("No calibration: a threshold needs")


async def test_nothing_readable_needs_no_server(tmp_path: Path) -> None:
    async with AsyncClient("http://127.0.0.1:9", retries=Retries(attempts=1)) as client:
        answer = await client.score([tmp_path], classes=CLASSES)
    assert "not a file" in (answer.results[0].error or "")


async def test_class_names_arrive_as_they_are(tmp_path: Path) -> None:
    names = ["[1, 2]", "a,b", '"quoted"', "größe", " spaced"]
    async with connected(tmp_path, FakeEngine()) as client:
        detector = await client.create_detector(names)
        answer = await client.score([png()], classes=names, top=len(names))
    assert isinstance(detector.classes, tuple)
    assert {near.name for near in answer.results[0].classes} == set(detector.classes)
    assert len(detector.classes) == len(names)


async def test_a_detector_lives_from_creation_to_deletion(tmp_path: Path) -> None:
    async with connected(tmp_path, FakeEngine()) as client:
        made = await client.create_detector(CLASSES, method="mcm", parameters={"temperature": 2.0})
        assert made.classes == tuple(CLASSES)
        assert made.calibration is None
        belong = [png(colour) for colour in COLOURS]
        first = await client.calibrate(made.id, [*belong, ("bad", b"?"), tmp_path / "none"], keep=0.5)
        assert (first.images, first.keep) == (3, 0.5)
        assert [failure.image for failure in first.failed] == ["bad", str(tmp_path / "none")]
        assert (await client.calibrate(made.id, belong, append=True)).images == 6
        answer = await client.score_with(made.id, belong, top=1)
        assert all(result.p_value is not None for result in answer.results)
        kept = await client.get(made.id)
        assert kept.calibration is not None
        assert kept.calibration.images == 6
        assert [each.id for each in await client.detectors()] == [made.id]
        await client.delete(made.id)
        assert await client.detectors() == ()


async def test_every_page_of_detectors_is_read(tmp_path: Path) -> None:
    async with connected(tmp_path, FakeEngine()) as client:
        made = {(await client.create_detector(["red", f"name {row}"])).id for row in range(101)}
        assert {each.id for each in await client.detectors()} == made


async def test_methods_and_encoders_are_records(tmp_path: Path) -> None:
    async with connected(tmp_path, FakeEngine()) as client:
        methods = {method.name: method for method in await client.methods()}
        encoders = await client.encoders()
    assert "temperature" in methods["mcm"].parameters["properties"]
    assert [encoder.name for encoder in encoders if encoder.default] == ["fake"]


async def test_a_problem_becomes_a_server_error(tmp_path: Path) -> None:
    async with connected(tmp_path, FakeEngine()) as client:
        with pytest.raises(ServerError, match="mcmm") as raised:
            await client.score([png()], classes=CLASSES, method="mcmm")
        with pytest.raises(ServerError) as absent:
            await client.get("../methods")
    assert raised.value.status == 422
    assert raised.value.title == "No such name"
    assert raised.value.request_id
    assert absent.value.status == 404


async def test_calibrating_from_nothing_readable_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(ImageError, match="no such file"):
            await client.calibrate("det_1", [tmp_path / "none"])


def test_many_images_go_in_several_requests_and_come_back_in_order(clock: FakeClock, tmp_path: Path) -> None:
    handle, seen = in_turn()
    files: Sequence[tuple[str, bytes] | Path] = [(f"{row}", b"x") for row in range(64)]
    with client_of(handle, clock) as client:
        answer = client.score([tmp_path / "none", *files, ("last", b"x")], classes=CLASSES)
    assert [request.content.count(b'name="images"') for request in seen] == [64, 1]
    assert [result.image for result in answer.results[1:]] == [*map(str, range(64)), "last"]
    assert answer.results[0].error
    assert [result.score for result in answer.results[1:]] == [*map(float, range(64)), 0.0]


def test_large_images_are_split_by_their_bytes(clock: FakeClock) -> None:
    handle, seen = in_turn()
    with client_of(handle, clock) as client:
        client.score([bytes(30 * 2**20)] * 3, classes=CLASSES)
    assert [request.content.count(b'name="images"') for request in seen] == [2, 1]


@pytest.mark.parametrize("status", [429, 503])
def test_the_server_says_when_to_come_back(clock: FakeClock, status: int) -> None:
    handle, seen = in_turn(httpx.Response(status, headers={"Retry-After": "7"}))
    with client_of(handle, clock) as client:
        assert client.score([png()], classes=CLASSES).results[0].score == 0.0
    assert clock.pauses == [7.0]
    assert seen[0].content.count(png()) == seen[1].content.count(png()) == 1


def test_a_date_to_come_back_at_is_read_by_the_servers_own_clock() -> None:
    dates = {"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_s(httpx.Headers(dates)) == 10.0
    assert retry_after_s(httpx.Headers({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"})) == 0.0
    assert retry_after_s(httpx.Headers({"Retry-After": "soon"})) is None
    assert retry_after_s(httpx.Headers()) is None


def test_pauses_grow_and_are_bounded_when_the_server_names_none() -> None:
    retries = Retries(first_s=1.0, longest_s=5.0)
    for attempt, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (10_000, 5.0)):
        assert most / 2 <= retries.pause_s(attempt, None, random.Random(attempt)) <= most


def test_a_lost_connection_is_tried_again_so_often_and_no_more(clock: FakeClock) -> None:
    handle, seen = in_turn(*[httpx.ConnectError("refused")] * 9)
    with (
        client_of(handle, clock, Retries(attempts=3)) as client,
        pytest.raises(ServerError, match="3 attempts") as raised,
    ):
        client.methods()
    assert raised.value.status is None
    assert (len(seen), len(clock.pauses)) == (3, 2)


def test_a_server_that_stays_busy_is_given_up(clock: FakeClock) -> None:
    busy = httpx.Response(503, json={"title": "The queue is full", "detail": "256 waiting", "status": 503})
    handle, seen = in_turn(*[busy] * 9)
    with client_of(handle, clock, Retries(attempts=4)) as client, pytest.raises(ServerError, match="256 waiting"):
        client.methods()
    assert len(seen) == 4


def test_a_pause_beyond_the_patience_is_not_begun(clock: FakeClock) -> None:
    handle, seen = in_turn(httpx.Response(429, headers={"Retry-After": "3600"}))
    with client_of(handle, clock) as client, pytest.raises(ServerError, match="429"):
        client.methods()
    assert clock.pauses == []
    assert len(seen) == 1


def test_what_may_have_been_done_is_not_done_twice(clock: FakeClock) -> None:
    handle, seen = in_turn(httpx.ReadError("reset"))
    with client_of(handle, clock) as client, pytest.raises(ServerError):
        client.calibrate("det_1", [png()], append=True)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"encoder": "fake"}),
        httpx.Response(200, json={"encoder": "fake", "results": []}),
        httpx.Response(200, json={"encoder": "fake", "results": [{"index": 5, "image": "a"}]}),
        httpx.Response(200, json={"encoder": "fake", "results": [{"index": 0, "image": "a", "score": "?"}]}),
        httpx.Response(302, headers={"Location": "http://elsewhere"}),
        httpx.Response(502, text="bad gateway"),
    ],
    ids=range(7),
)
def test_an_answer_of_something_else_is_a_server_error(clock: FakeClock, response: httpx.Response) -> None:
    with client_of(lambda _: response, clock) as client, pytest.raises(ServerError):
        client.score([png()], classes=CLASSES)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", ""])
def test_a_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(InputError, match="server"):
        Client(url)


def test_one_string_is_no_list_of_class_names() -> None:
    with Client(URL) as client, pytest.raises(InputError, match="give a list"):
        client.score([png()], classes="cat")


def test_a_first_attempt_is_needed() -> None:
    with pytest.raises(InputError, match="attempts is 0"):
        Retries(attempts=0)


def test_the_command_line_scores_on_a_server_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data=tmp_path / "data")
    settings.data.mkdir()
    database = Database(settings.sql_url)
    _, token = KeyStore(database).create("a", ["score"])
    database.close()
    picture = tmp_path / "a.png"
    picture.write_bytes(png())
    command = ["score", str(picture), str(tmp_path / "none.png"), "--classes", "red,lime", "--json", "--server"]
    with running(create_app(settings, FakeEngine(["embedded"])), settings) as url:
        refused = CliRunner().invoke(build(), [*command, url])
        monkeypatch.setenv("VLM_OOD_API_KEY", token)
        scored = CliRunner().invoke(build(), [*command, url])
    assert isinstance(refused.exception, ServerError)
    assert refused.exception.status == 401
    assert scored.exit_code == 1, scored.output
    answer = json.loads(scored.stdout)
    assert [result["image"] for result in answer["results"]] == [str(picture), str(tmp_path / "none.png")]
    assert answer["results"][0]["classes"][0]["name"] in CLASSES
    assert "no such file" in answer["results"][1]["error"]
