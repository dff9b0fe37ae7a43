"""Writes that meet each other, a full disk, or a read-only folder."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from benchmarks.hostile.mounts import frozen
from benchmarks.hostile.phases import Needs, Outcome, phase
from benchmarks.hostile.target import Target, answers_of, unseen
from benchmarks.hostile.wire import Answer
from benchmarks.hostile.writes import calibrate, make_detector

ROUNDS = 12
RECALIBRATES_S = 10.0
MIB = 2**20


@phase("storage.equal_puts")
async def equal_puts(target: Target) -> Outcome:
    """Two equal calibrations at once, twelve times; after each the detector still decides."""
    answers, damaged = [], 0
    path = f"/v1/detectors/{await a_detector(target)}"
    for _ in range(ROUNDS):
        pictures = [unseen() for _ in range(3)]
        put = [target.send(pictures, f"{path}/calibration", "PUT") for _ in range(2)]
        answers += [*await asyncio.gather(*put), decided := await target.send([unseen()], f"{path}/score")]
        damaged += not decides(decided)
    broken = (f"the calibration was damaged in {damaged} of {ROUNDS} rounds",) if damaged else ()
    return Outcome(answers_of(answers), broken)


@phase("storage.recalibration")
async def recalibration(target: Target) -> Outcome:
    """Four clients score with a detector that is calibrated again and again; each score has a decision."""
    detector = await a_detector(target)
    first = await calibrate(target, detector)
    ends_at = time.perf_counter() + RECALIBRATES_S
    puts, scores = [first], list[Answer]()

    async def scorer() -> None:
        while time.perf_counter() < ends_at:
            scores.append(await target.send([unseen()], f"/v1/detectors/{detector}/score"))

    async def calibrator() -> None:
        while time.perf_counter() < ends_at:
            puts.append(await calibrate(target, detector))

    await asyncio.gather(*(scorer() for _ in range(4)), calibrator())
    undecided = sum(not decides(answer) for answer in scores)
    broken = (f"{undecided} of {len(scores)} scores had no decision",) if undecided else ()
    return Outcome(answers_of([*puts, *scores]), broken)


@phase("storage.disk_full", needs=Needs(disk_mib=32))
async def disk_full(target: Target) -> Outcome:
    """The data folder's file system is full: writes are answered 507, images are scored, and space ends it."""
    detector = await a_detector(target)
    filler = target.server.data / "filler"
    fill(filler)
    writes = [*[await make_detector(target) for _ in range(10)], *[await calibrate(target, detector) for _ in range(5)]]
    scored = [await target.send([unseen()]) for _ in range(5)]
    filler.unlink()
    return outcome_of(writes, scored, await make_detector(target))


@phase("storage.read_only", needs=Needs(fresh=True))
async def read_only(target: Target) -> Outcome:
    """The data folder becomes read-only: writes are answered 507 or succeed, images are scored, and it can end."""
    detector = await a_detector(target)
    with frozen(target.server.data):
        writes = [
            *[await make_detector(target) for _ in range(10)],
            *[await calibrate(target, detector) for _ in range(5)],
        ]
        scored = [await target.send([unseen()]) for _ in range(5)]
    return outcome_of(writes, scored, await make_detector(target))


def outcome_of(writes: list[Answer], scored: list[Answer], after: Answer) -> Outcome:
    """Writes may fail with 507 alone, scores may not, and the write afterwards succeeds."""
    broken = []
    if odd := Counter(answer.status for answer in writes if not (answer.ok or answer.status == "507")):
        broken.append(f"writes were answered {dict(odd)}")
    if failed := sum(not answer.ok for answer in scored):
        broken.append(f"{failed} of {len(scored)} images were not scored")
    if not after.ok:
        broken.append(f"a write afterwards was answered {after.status}")
    return Outcome(answers_of([*writes, *scored, after]), tuple(broken))


async def a_detector(target: Target) -> str:
    """The id of a new detector."""
    made = await make_detector(target)
    return str(made.json()["id"])


def decides(answer: Answer) -> bool:
    """Whether a score has a decision."""
    return answer.ok and all(result["decision"] is not None for result in answer.json()["results"])


def fill(path: Path) -> None:
    """A file that takes all space there is."""
    for size in (MIB, 4096, 1):
        with suppress(OSError), path.open("ab", buffering=0) as file:
            while file.write(bytes(size)) == size:
                pass
