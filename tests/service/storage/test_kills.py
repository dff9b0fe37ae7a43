"""A process killed at any step of any write: what it acknowledged is there, and nothing is half-written."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from service.banks.rows import BankRow
from service.banks.store import BankStore
from service.calibration.store import CalibrationStore, NewCalibration
from service.detectors.rows import DetectorRow
from service.detectors.store import DetectorStore
from service.security.keys import KeyStore
from service.security.rows import ApiKey
from service.storage.blobs import Blobs, UnreferencedBlob
from service.storage.database import Database
from tests.service.storage.conftest import NewUrl
from tests.service.storage.processes import run
from tests.service.storage.rows import bank_row
from vlm_ood.tasks import DetectorSpec, TaskSpec, TemplateBank

SPEC = DetectorSpec("mcm", TaskSpec(TemplateBank(("a", "b")), "embedded"))


class Stores:
    """All that a server writes to, with no grace time."""

    def __init__(self, url: str, folder: Path) -> None:
        self.database = Database(url)
        self.blobs = Blobs(self.database, folder, grace_s=0)
        self.keys = KeyStore(self.database)
        self.detectors = DetectorStore(self.database, self.blobs, max_detectors=10)
        self.banks = BankStore(self.database, self.blobs, max_banks=10, max_bytes=1000)
        self.calibrations = CalibrationStore(self.database, self.blobs)

    def close(self) -> None:
        self.database.close()

    async def create_key(self) -> None:
        self.keys.create("a", ["score"])

    async def revoke_key(self) -> None:
        self.keys.revoke(self.keys.all()[0].id)

    async def create_detector(self) -> None:
        await self.detectors.create("a", SPEC)

    async def upload_bank(self) -> None:
        await self.banks.create(bank_row("uploaded", "uploaded"), b"vectors")

    async def make_bank(self) -> None:
        await self.banks.create(bank_row("made", "made", spec={"kind": "templates"}), None, ["bnk_uploaded"])

    async def delete_banks(self) -> None:
        await self.banks.delete("a", "bnk_made")

    async def delete_upload(self) -> None:
        await self.banks.delete("a", "bnk_uploaded")

    async def calibrate(self) -> None:
        await self._replace(b"old scores")

    async def recalibrate(self) -> None:
        await self._replace(b"new scores")

    async def delete_calibration(self) -> None:
        await self.calibrations.delete(await self._detector())

    async def delete_detector(self) -> None:
        await self.detectors.delete("a", (await self._detector()).id)

    async def _replace(self, content: bytes) -> None:
        new = NewCalibration(content, keep=0.95, threshold=0.5, images=3, appended=False)
        await self.calibrations.replace(await self._detector(), new)

    async def _detector(self) -> DetectorRow:
        rows, _ = await self.detectors.page("a", 1, None)
        return rows[0]

    def state(self) -> list[object]:
        """All that readers see, the contents of files included."""

        def rows(session: Any) -> list[object]:
            found: list[object] = [(key.tenant, key.revoked_at is None) for key in session.scalars(select(ApiKey))]
            banks = session.scalars(select(BankRow).order_by(BankRow.id))
            found += [(bank.id, self.blobs.content(bank.blob) if bank.blob else None) for bank in banks]
            detectors = [(row.id, row.calibration) for row in session.scalars(select(DetectorRow))]
            found += [(name, row and self.blobs.content(row.blob)) for name, row in detectors]
            return found

        return self.database.now(rows)


WRITES: tuple[Callable[[Stores], Awaitable[None]], ...] = (
    Stores.create_key,
    Stores.create_detector,
    Stores.upload_bank,
    Stores.make_bank,
    Stores.calibrate,
    Stores.recalibrate,
    Stores.delete_calibration,
    Stores.calibrate,
    Stores.revoke_key,
    Stores.delete_banks,
    Stores.delete_upload,
    Stores.delete_detector,
)


def write_and_die(url: str, folder: Path, acknowledged: Path, point: int, _: Barrier) -> None:
    """Do every write, and be killed at this point: before or after a statement, a commit or a change of a file."""
    stores = Stores(url, folder)
    points = count()

    def reach(*_: Any) -> None:
        if next(points) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(work: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            reach()
            result = work(*arguments, **options)
            reach()
            return result

        return stepped

    for owner, name in ((os, "fsync"), (Path, "open"), (Path, "unlink"), (Path, "mkdir")):
        setattr(owner, name, around(getattr(owner, name)))
    for each in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(Engine, each, reach)
    record = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for write in WRITES:
        asyncio.run(_done(write(stores)))
        os.write(record, b".")


async def _done(work: Awaitable[None]) -> None:
    await work


def states(url: str, folder: Path) -> list[list[object]]:
    """What is seen after each number of writes."""
    with closing(Stores(url, folder)) as stores:
        seen = [stores.state()]
        for write in WRITES:
            asyncio.run(_done(write(stores)))
            seen.append(stores.state())
        return seen


def check_kills(new_url: NewUrl, tmp_path: Path, first: int, step: int) -> None:
    expected = states(new_url(), tmp_path / "whole")
    assert len({repr(state) for state in expected}) >= len(WRITES) - 1, "the writes are seen"
    for point in count(first, step):
        url, folder, record = new_url(), tmp_path / f"blobs {point}", tmp_path / f"done {point}"
        Database(url).close()
        code = run(write_and_die, url, folder, record, point)
        done = record.stat().st_size if record.exists() else 0
        with closing(Stores(url, folder)) as stores:
            asyncio.run(_done(stores.blobs.sweep()))
            assert stores.state() in expected[done : done + 2], (point, done)
            asyncio.run(_done(stores.blobs.sweep()))
            files = {f"{path.parent.name}/{path.name}" for path in folder.rglob("*") if path.is_file()}
            named = stores.database.now(_blobs_of_rows)
            assert files == named, point
            listed = stores.database.now(lambda session: session.scalars(select(UnreferencedBlob)).all())
            assert not listed, point
        if code == [0]:
            assert point > 100, "the writes were hardly interrupted"
            return
        assert code == [-signal.SIGKILL], code


def _blobs_of_rows(session: Any) -> set[str]:
    banks = {row.blob for row in session.scalars(select(BankRow)) if row.blob}
    return banks | {row.calibration.blob for row in session.scalars(select(DetectorRow)) if row.calibration}


def test_a_kill_at_some_steps_of_every_write_loses_nothing_and_leaves_nothing(new_url: NewUrl, tmp_path: Path) -> None:
    check_kills(new_url, tmp_path, first=3, step=29)


@pytest.mark.slow
def test_a_kill_at_many_steps_of_every_write_loses_nothing_and_leaves_nothing(new_url: NewUrl, tmp_path: Path) -> None:
    check_kills(new_url, tmp_path, first=0, step=23)
