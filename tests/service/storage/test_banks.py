"""Banks on either database: one row per content, none deleted from under its user, and no blob without a row."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import service.detectors.rows  # noqa: F401  (the tables refer to it)
from service.banks import store as stores
from service.banks.rows import BankRow
from service.banks.store import BankStore
from service.detectors import store as detector_stores
from service.detectors.store import DetectorStore
from service.errors import ConflictError, NotFoundError
from service.storage.blobs import Blobs, UnreferencedBlob
from service.storage.database import Database
from tests.service.storage.rows import bank_row
from vlm_ood.tasks import DetectorSpec, StoredBank, TaskSpec, TemplateBank


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database, tmp_path: Path) -> BankStore:
    return BankStore(database, Blobs(database, tmp_path), max_banks=20, max_bytes=1000)


def bank(number: int = 0, tenant: str = "a", digest: str = "d") -> BankRow:
    return bank_row(str(number), digest, tenant=tenant)


async def test_equal_banks_sent_at_once_are_one(store: BankStore, tmp_path: Path) -> None:
    made = await asyncio.gather(*(store.create(bank(number), b"content") for number in range(8)))
    assert len({row.id for row, _ in made}) == 1
    assert sum(new for _, new in made) == 1
    row = made[0][0]
    assert await store.read(row) == b"content"
    unreferenced = await store.database.run(lambda session: set(session.scalars(select(UnreferencedBlob.name))))
    written = {f"banks/{path.name}" for path in (tmp_path / "banks").iterdir()}
    assert written - unreferenced == {row.blob}


def slow(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same work, and time for other transactions to begin before the next statement."""

    def wait(*arguments: object) -> object:
        result = work(*arguments)
        time.sleep(0.05)
        return result

    return wait


@pytest.mark.parametrize(("max_banks", "max_bytes"), [(2, 1000), (20, 25)])
async def test_banks_sent_at_once_keep_within_the_limits(
    store: BankStore, monkeypatch: pytest.MonkeyPatch, max_banks: int, max_bytes: int
) -> None:
    monkeypatch.setattr(BankStore, "_check_room", slow(BankStore._check_room))
    limited = replace(store, max_banks=max_banks, max_bytes=max_bytes)
    banks = [bank(number, digest=str(number)) for number in range(4)]
    answers = await asyncio.gather(*(limited.create(each, b"x" * 10) for each in banks), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["ConflictError"] * 2 + ["tuple"] * 2
    rows, _ = await limited.page("a", 10, None)
    assert len(rows) == 2
    assert (await limited.create(bank(4, tenant="b"), b"x" * 10))[1], "each tenant has limits of its own"


async def test_detectors_sent_at_once_keep_within_the_limit(store: BankStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_stores, "id_of", slow(detector_stores.id_of))  # called after the rows were counted
    detectors = DetectorStore(store.database, store.blobs, max_detectors=2)
    specs = [DetectorSpec("mcm", TaskSpec(TemplateBank(("a", str(number))), "fake")) for number in range(4)]
    answers = await asyncio.gather(*(detectors.create("a", each) for each in specs), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["ConflictError"] * 2 + ["tuple"] * 2
    rows, _ = await detectors.page("a", 10, None)
    assert len(rows) == 2


async def test_equal_detectors_sent_at_once_are_one(store: BankStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_stores, "id_of", slow(detector_stores.id_of))
    detectors = DetectorStore(store.database, store.blobs, max_detectors=2)
    spec = DetectorSpec("mcm", TaskSpec(TemplateBank(("a", "b")), "fake"))
    answers = await asyncio.gather(*(detectors.create("a", spec) for _ in range(4)))
    assert sorted(new for _, new in answers) == [False, False, False, True]


async def test_a_deleted_bank_gives_its_room_and_its_file_back(store: BankStore) -> None:
    row, _ = await store.create(bank(), b"x" * 900)
    with pytest.raises(ConflictError, match="limit of 1,000"):
        await store.create(bank(1, digest="e"), b"x" * 200)
    await store.create(bank(2, tenant="b", digest="e"), b"x" * 200)
    await store.delete("a", row.id)
    listed = await store.database.run(lambda session: list(session.scalars(select(UnreferencedBlob.name))))
    assert row.blob in listed
    await store.create(bank(3, digest="e"), b"x" * 200)


async def test_a_bank_taken_into_use_meanwhile_is_kept(store: BankStore, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = await store.create(bank(), b"content")
    detectors = DetectorStore(store.database, store.blobs, max_detectors=3)
    spec = DetectorSpec("mcm", TaskSpec(StoredBank(row.id, row.digest), "fake"))
    detector, _ = await detectors.create("a", spec)
    monkeypatch.setattr(stores, "_check_unused", lambda session, row: None)  # the detector came after it had looked
    with pytest.raises(ConflictError, match="taken into use"):
        await store.delete("a", row.id)
    assert await store.read(await store.get("a", row.id)) == b"content"
    await detectors.delete("a", detector.id)
    await store.delete("a", row.id)


async def test_nothing_is_made_of_a_bank_that_was_deleted_meanwhile(store: BankStore) -> None:
    row, _ = await store.create(bank(), b"content")
    await store.delete("a", row.id)
    spec = DetectorSpec("mcm", TaskSpec(StoredBank(row.id, row.digest), "fake"))
    with pytest.raises(NotFoundError):
        await DetectorStore(store.database, store.blobs, max_detectors=3).create("a", spec)
    with pytest.raises(NotFoundError):
        await store.create(bank(1, digest="e"), None, [row.id])
    with pytest.raises(NotFoundError):
        await store.get("a", "bnk_1")
    with pytest.raises(NotFoundError):
        await store.get("a", "bnk_\0")


async def test_a_bank_is_no_part_of_another_tenants(store: BankStore) -> None:
    row, _ = await store.create(bank(), b"content")
    spec = DetectorSpec("mcm", TaskSpec(StoredBank(row.id, row.digest), "fake"))
    with pytest.raises(NotFoundError):
        await DetectorStore(store.database, store.blobs, max_detectors=3).create("b", spec)
    with pytest.raises(NotFoundError):
        await store.create(bank(1, tenant="b"), None, [row.id])
    with pytest.raises(NotFoundError):
        await store.delete("b", row.id)
