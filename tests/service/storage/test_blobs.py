"""Files and the rows that refer to them: no reader misses a file, none is left over, whenever a process dies."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from service.banks.rows import BankRow
from service.banks.store import BankStore
from service.calibration.store import CalibrationStore, NewCalibration
from service.detectors.rows import DetectorRow
from service.detectors.store import DetectorStore
from service.errors import ConflictError, NotFoundError
from service.storage.blobs import Blobs, UnreferencedBlob
from service.storage.database import Database
from tests.service.storage.conftest import NewUrl
from tests.service.storage.rows import bank_row
from vlm_ood.errors import StorageError
from vlm_ood.tasks import DetectorSpec, TaskSpec, TemplateBank

SPEC = DetectorSpec("mcm", TaskSpec(TemplateBank(("a", "b")), "embedded"))


def made(content: bytes, *, appended: bool = False) -> NewCalibration:
    return NewCalibration(content, keep=0.95, threshold=0.5, images=len(content), appended=appended)


@dataclass
class Stored:
    """A detector in a database, and what a process keeps of it."""

    url: str
    folder: Path
    grace_s: float = 3600.0

    def __post_init__(self) -> None:
        self.database = Database(self.url)
        self.blobs = Blobs(self.database, self.folder, self.grace_s)
        self.detectors = DetectorStore(self.database, self.blobs, max_detectors=10)
        self.calibrations = CalibrationStore(self.database, self.blobs)
        self.banks = BankStore(self.database, self.blobs, max_banks=10, max_bytes=1000)

    def restarted(self) -> "Stored":
        """Another process, after this one died; nothing has a grace time any more."""
        self.database.close()
        return Stored(self.url, self.folder, grace_s=0)

    async def detector(self) -> DetectorRow:
        row, _ = await self.detectors.create("a", SPEC)
        return await self.detectors.get("a", row.id)

    async def calibrated(self, content: bytes) -> DetectorRow:
        await self.calibrations.replace(await self.detector(), made(content))
        return await self.detector()

    async def content(self) -> bytes | None:
        """What the calibration of the detector holds."""
        calibration = (await self.detector()).calibration
        return None if calibration is None else await self.calibrations.read(calibration)

    def files(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())

    def listed(self) -> int:
        return len(self.database.now(lambda session: session.scalars(select(UnreferencedBlob)).all()))


@pytest.fixture
async def stored(url: str, tmp_path: Path) -> AsyncIterator[Stored]:
    stored = Stored(url, tmp_path / "blobs")
    yield stored
    stored.database.close()


async def test_equal_calibrations_at_once_both_succeed_and_the_file_is_there(stored: Stored) -> None:
    for before in (None, b"before"):
        row = await stored.detector() if before is None else await stored.calibrated(before)
        await asyncio.gather(*(stored.calibrations.replace(row, made(b"same")) for _ in range(6)))
        assert await stored.content() == b"same"
    again = stored.restarted()
    await again.blobs.sweep()
    assert (again.files(), again.listed()) == ([b"same"], 0)
    assert await again.content() == b"same"
    again.database.close()


async def test_of_different_calibrations_at_once_one_succeeds(stored: Stored) -> None:
    row = await stored.detector()
    contents = [b"%d" % number for number in range(6)]
    answers = await asyncio.gather(
        *(stored.calibrations.replace(row, made(content)) for content in contents), return_exceptions=True
    )
    assert [type(answer) for answer in answers if answer] == [ConflictError] * 5
    assert await stored.content() == contents[answers.index(None)]


async def test_equal_images_appended_at_once_are_not_taken_for_one_request(stored: Stored) -> None:
    row = await stored.calibrated(b"before")
    new = made(b"before and after", appended=True)
    answers = await asyncio.gather(*(stored.calibrations.replace(row, new) for _ in range(2)), return_exceptions=True)
    assert [type(answer) for answer in answers if answer] == [ConflictError]


async def test_a_calibration_is_read_as_it_was_when_its_row_was(stored: Stored) -> None:
    row = await stored.calibrated(b"old")
    assert row.calibration is not None
    await stored.calibrated(b"new")
    assert await stored.calibrations.read(row.calibration) == b"old"
    await stored.calibrations.delete(row)
    assert await stored.calibrations.read(row.calibration) == b"old"
    assert await stored.content() is None


async def test_detectors_deleted_and_calibrated_at_once_leave_nothing(stored: Stored) -> None:
    for _ in range(5):
        row = await stored.calibrated(b"before")
        answers = await asyncio.gather(
            stored.calibrations.replace(row, made(b"after")),
            stored.detectors.delete("a", row.id),
            stored.calibrations.delete(row),
            return_exceptions=True,
        )
        assert {type(answer) for answer in answers} <= {type(None), NotFoundError, ConflictError}
        assert answers[1] is None
    again = stored.restarted()
    await again.blobs.sweep()
    assert (again.files(), again.listed()) == ([], 0)
    again.database.close()


def bank(content: bytes) -> BankRow:
    return bank_row(content.decode(), content.hex())


async def test_equal_banks_stored_and_deleted_at_once_leave_one_file_or_none(stored: Stored) -> None:
    made = await asyncio.gather(*(stored.banks.create(bank(b"same"), b"same") for _ in range(4)))
    assert sorted(new for _, new in made) == [False, False, False, True]
    row, _ = made[0]
    assert await stored.banks.read(row) == b"same"
    await replace(stored.blobs, grace_s=0).sweep()
    assert stored.files() == [b"same"]
    deleted = await asyncio.gather(*(stored.banks.delete("a", row.id) for _ in range(4)), return_exceptions=True)
    assert [type(answer) for answer in deleted if answer] == [NotFoundError] * 3
    await replace(stored.blobs, grace_s=0).sweep()
    assert (stored.files(), stored.listed()) == ([], 0)


class Crash(BaseException):
    """The end of a process."""


@contextmanager
def crash_at(point: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Iterator[int]]:
    """End at this point, counted from 0: before each statement, each commit and each change of a file."""
    points = count()

    def reach(*_: Any) -> None:
        if next(points) == point:
            raise Crash

    with monkeypatch.context() as patched:
        for owner, name in ((os, "fsync"), (Path, "open"), (Path, "unlink"), (Path, "mkdir")):
            patched.setattr(owner, name, _after(reach, getattr(owner, name)))
        for each in ("before_cursor_execute", "commit"):
            event.listen(Engine, each, reach)
        try:
            yield points
        finally:
            for each in ("before_cursor_execute", "commit"):
                event.remove(Engine, each, reach)


def _after(reach: Callable[[], None], work: Callable[..., object]) -> Callable[..., object]:
    def run(*arguments: Any, **options: Any) -> object:
        reach()
        return work(*arguments, **options)

    return run


Step = Callable[[Stored, DetectorRow], Awaitable[None]]


@pytest.mark.parametrize(
    ("work", "outcomes"),
    [
        (lambda stored, row: stored.calibrations.replace(row, made(b"new")), {b"old", b"new"}),
        (lambda stored, row: stored.calibrations.delete(row), {b"old", None}),
        (lambda stored, row: stored.detectors.delete("a", row.id), {b"old", None}),
    ],
    ids=["replace", "delete", "delete detector"],
)
async def test_a_crash_between_any_two_steps_loses_no_file_and_leaves_none(
    new_url: NewUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Step, outcomes: set[bytes | None]
) -> None:
    seen = set()
    for point in count():
        stored = Stored(new_url(), tmp_path / f"blobs {point}", grace_s=0)
        row = await stored.calibrated(b"old")
        died = False
        with crash_at(point, monkeypatch):
            try:
                await work(stored, row)
            except Crash:
                died = True
        again = stored.restarted()
        await again.blobs.sweep()
        content = await again.content()
        seen.add(content)
        assert (again.files(), again.listed()) == ([] if content is None else [content], 0), point
        again.database.close()
        if not died:
            break
    assert point > 5, "nothing was interrupted"
    assert seen == outcomes


async def test_a_sweep_deletes_what_no_row_refers_to_after_the_grace_time_alone(stored: Stored) -> None:
    await stored.calibrated(b"kept")
    await stored.blobs.write("calibrations", b"never used")
    await stored.blobs.sweep()
    assert stored.files() == [b"kept", b"never used"]
    await replace(stored.blobs, grace_s=0).sweep()
    assert stored.files() == [b"kept"]


class Clock:
    """A time of day and a monotonic clock, which may go apart."""

    def __init__(self) -> None:
        self.day, self.seconds = datetime(2030, 1, 1, tzinfo=UTC), 0.0

    def now(self) -> datetime:
        return self.day

    def monotonic(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.day += timedelta(seconds=seconds)
        self.seconds += seconds


async def test_a_clock_that_is_set_forward_ends_no_grace_time(stored: Stored) -> None:
    clock = Clock()
    blobs = replace(stored.blobs, grace_s=60, now=clock.now, clock=clock.monotonic)
    name = await blobs.write("calibrations", b"a")
    clock.day += timedelta(days=365)
    await blobs.sweep()
    stored.database.now(lambda session: blobs.refer(session, name))
    stored.database.now(lambda session: blobs.release(session, name))
    clock.day += timedelta(days=365)
    await blobs.sweep()
    assert await blobs.read(name) == b"a", "a request may have read its row a moment ago"
    clock.pass_(60)
    await blobs.sweep()
    assert stored.files() == []


async def test_a_clock_that_is_set_back_delays_a_deletion_by_one_grace_time_at_most(stored: Stored) -> None:
    clock = Clock()
    await replace(stored.blobs, now=clock.now).write("calibrations", b"a")
    clock.day -= timedelta(days=365)
    another = replace(stored.blobs, grace_s=60, now=clock.now, clock=clock.monotonic)
    await another.sweep()
    clock.pass_(59)
    await another.sweep()
    assert stored.files() == [b"a"]
    clock.pass_(1)
    await another.sweep()
    assert (stored.files(), stored.listed()) == ([], 0)


async def test_what_another_process_has_just_written_is_kept(stored: Stored) -> None:
    other = Stored(stored.url, stored.folder)
    name = await other.blobs.write("calibrations", b"a")
    await stored.blobs.sweep()
    stored.database.now(lambda session: other.blobs.refer(session, name))
    assert await stored.blobs.read(name) == b"a"
    other.database.close()


async def test_no_row_comes_to_refer_to_a_deleted_blob(stored: Stored) -> None:
    name = await stored.blobs.write("calibrations", b"slow")
    await replace(stored.blobs, grace_s=0).sweep()
    with pytest.raises(StorageError, match="waited too long"):
        stored.database.now(lambda session: stored.blobs.refer(session, name))


async def test_a_file_that_cannot_be_deleted_is_left_to_the_next_sweep(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored.blobs.write("calibrations", b"a")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", _raise)
        await replace(stored.blobs, grace_s=0).sweep()
    assert (stored.files(), stored.listed()) == ([b"a"], 1)
    await replace(stored.blobs, grace_s=0).sweep()
    assert (stored.files(), stored.listed()) == ([], 0)


def _raise(*_: object, **__: object) -> None:
    raise OSError(errno.EBUSY, "Device or resource busy")


async def test_a_missing_file_is_an_error_with_a_remedy(stored: Stored) -> None:
    row = await stored.calibrated(b"a")
    assert row.calibration is not None
    (stored.folder / row.calibration.blob).unlink()
    with pytest.raises(StorageError, match=r"calibrations/.* can't be read: No such file.*restore a backup"):
        await stored.content()
