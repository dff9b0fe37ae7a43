"""The benchmark of attacks reports what a server did wrong, and only that."""

import asyncio
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import Pipe
from random import Random

import pytest
from PIL import Image, ImageSequence

from benchmarks.hostile.judge import Report, broken_bounds, percentile
from benchmarks.hostile.mixed import judged
from benchmarks.hostile.observer import Observed, _Watch
from benchmarks.hostile.phases import Bounds, Outcome
from benchmarks.hostile.storage import decides, outcome_of
from benchmarks.hostile.table import as_json, cells, markdown
from benchmarks.hostile.wire import Address, Answer, ask, form, request
from tests.hostile_images import pages, scans, truncated

WELL = Observed([0.01] * 100, [("200", 0.1)] * 99 + [("200", 0.2)], {"all": 1500.0, "server": 1500.0})
QUIET = Outcome(Counter({"422": 3}))


def broken(observed: Observed = WELL, outcome: Outcome = QUIET, recovered_s: float = 0.1) -> tuple[str, ...]:
    return broken_bounds(Bounds(), outcome, observed, 1000.0, recovered_s)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([3.0, 1.0, 2.0], 99, 3.0),
        (list(range(1, 101)), 99, 99),
        ([7.0], 50, 7.0),
        ([], 99, 0),
    ],
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    values: Sequence[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == expected


def test_a_server_that_holds_its_bounds_breaks_none() -> None:
    assert broken() == ()


@pytest.mark.parametrize(
    ("observed", "told"),
    [
        (replace(WELL, beats=[0.01] * 99 + [1.2]), "/livez took 1.2 s"),
        (replace(WELL, beats=[]), "/livez took inf s"),
        (replace(WELL, peaks={"all": 2100.0}), "memory grew by 1100 MiB"),
        (replace(WELL, victims=[("200", 0.1)] * 9 + [("503", 0.1)]), "9 of 10 victims were served"),
        (replace(WELL, victims=[]), "0 of 0 victims were served"),
        (replace(WELL, victims=[("200", 0.1)] * 98 + [("200", 5.5)] * 2), "victims' p99 was 5.5 s"),
        (replace(WELL, victims=[("200", 0.1)] * 99 + [("500", 0.1)]), "victims got 1 times 500"),
        (replace(WELL, victims=[("200", 0.1)] * 99 + [("hang", 1.0)]), "victims got 1 times hang"),
    ],
)
def test_each_bound_that_is_broken_is_told_alone(observed: Observed, told: str) -> None:
    (text,) = broken(observed)
    assert told in text


@pytest.mark.parametrize("status", ["500", "hang", "500 image"])
def test_an_attacker_that_gets_a_server_error_or_no_answer_is_told(status: str) -> None:
    assert broken(outcome=Outcome(Counter({status: 2}))) == (f"the attacker got 2 times {status}",)


def test_what_a_phase_requires_itself_and_a_late_recovery_are_told() -> None:
    assert broken(outcome=Outcome(Counter(), ("a write is lost",)), recovered_s=9.0) == (
        "a victim was served 9.0 s after the attack, more than 5",
        "a write is lost",
    )


def test_the_mixed_phase_tells_growth_loss_and_valid_requests_that_were_not_served() -> None:
    good = Counter({"200": 95})
    assert judged(good, Counter({"422": 5}), [100.0, 300.0, 310.0, 320.0], 100).broken == ()
    grown = judged(good, Counter({"422": 5}), [100.0, 110.0, 150.0, 320.0], 100).broken
    assert grown == ("memory grew by 170 MiB in the second half, more than 100",)
    lost = judged(good, Counter({"422": 3}), [1.0, 1.0], 100).broken
    assert lost == ("2 of 100 requests have no answer",)
    refused = judged(Counter({"200": 94, "500": 1}), Counter({"422": 5}), [1.0, 1.0], 100).broken
    assert refused == ("1 of 95 valid requests were not answered 200",)


def test_writes_on_a_full_disk_may_be_answered_507_alone() -> None:
    good, full, wrong = Answer("201"), Answer("507"), Answer("500")
    assert outcome_of([full, good], [good], good).broken == ()
    assert outcome_of([full, wrong], [wrong], full).broken == (
        "writes were answered {'500': 1}",
        "1 of 1 images were not scored",
        "a write afterwards was answered 507",
    )


def test_a_score_without_a_decision_does_not_decide() -> None:
    assert decides(Answer("200", b'{"results": [{"decision": "in"}]}'))
    assert not decides(Answer("200", b'{"results": [{"decision": null}]}'))
    assert not decides(Answer("507"))


def test_the_table_has_a_row_per_phase_with_its_figures() -> None:
    report = Report("bodies.deep", "Deep.", Bounds(), QUIET, WELL, 1000.0, 0.1, ("wrong",))
    assert cells(report) == (
        "bodies.deep", "3 x 422", "0.01 s", "1500 + 0 + 0", "+500", "100 x 200", "0.10 s", "0.10 s", "broken",
    )  # fmt: skip
    assert markdown([report]).count("\n") == 2
    assert cells(replace(report, skipped="needs root"))[-1] == "skipped: needs root"
    (plain,) = json.loads(as_json([report]))
    assert plain["outcome"]["answers"] == {"422": 3}
    assert len(plain["observed"]["beats"]) == 100


async def test_an_observer_sees_what_a_server_answers_to_its_victims() -> None:
    """A server that is alive and answers 500 to every image."""
    answers = {
        b"GET": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"POS": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[(await reader.readuntil(b"\r\n\r\n"))[:3]])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    ours, theirs = Pipe()
    watch = asyncio.create_task(_Watch(server.sockets[0].getsockname()[1], 1, {}).run(theirs))
    assert await asyncio.to_thread(ours.recv) == "started"
    ours.send(None)
    await watch
    observed: Observed = ours.recv()
    server.close()
    assert max(observed.beats) < 5
    assert {status for status, _ in observed.victims} == {"500"}
    assert "victims got 2 times 500" in broken(observed)


async def test_a_connection_that_ends_without_an_answer_is_cut_and_one_that_stays_silent_a_hang() -> None:
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/silent" in await reader.readuntil(b"\r\n\r\n"):
            await silent.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = Address(server.sockets[0].getsockname()[1])
    assert (await ask(address, request("GET", "/gone"))).status == "cut"
    assert (await ask(address, request("GET", "/silent"), timeout_s=0.05)).status == "hang"
    silent.set()
    server.close()


def test_a_form_holds_its_fields_and_files() -> None:
    body, kind = form([("a.jpg", b"\xff\xd8")], ["cat"], top="2")
    assert kind == "multipart/form-data; boundary=hostile"
    for part in (b'name="classes"\r\n\r\ncat\r\n', b'name="top"\r\n\r\n2\r\n', b'filename="a.jpg"\r\n\r\n\xff\xd8\r\n'):
        assert part in body


def test_the_harmful_files_are_what_they_are_meant_to_be() -> None:
    """Whole to a decoder: else they would be refused for another reason than the one that is tried."""
    with Image.open(io.BytesIO(scans(3, side=200))) as image:
        image.load()
        assert image.size == (200, 200)
    with Image.open(io.BytesIO(pages(30))) as image:
        assert len(list(ImageSequence.Iterator(image))) == 30
    assert len({name for name, _ in truncated(Random(0), 50)}) > 3
