"""Banks on either database: one row per content, none deleted from under its user, and no blob without a row."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

import service.detectors.rows  # noqa: F401  (the tables refer to it)
from service.banks import store as stores
from service.banks.rows import BankRow
from service.banks.store import BankStore
from service.detectors.store import DetectorStore
from service.errors import ConflictError, NotFoundError
from service.storage.blobs import Blobs, UnreferencedBlob
from service.storage.database import Database
from vlm_ood.tasks import DetectorSpec, StoredBank, TaskSpec


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database, tmp_path: Path) -> BankStore:
    return BankStore(database, Blobs(database, tmp_path), max_banks=20, max_bytes=1000)


def bank(number: int = 0, tenant: str = "a", digest: str = "d") -> BankRow:
    return BankRow(
        id=f"bnk_{number}",
        tenant=tenant,
        kind="text",
        label="",
        spec=None,
        digest=digest,
        rows=2,
        dim=4,
        encoder="fake",
        encoder_digest="e",
        blob="",
        nbytes=0,
        created_at=datetime.now(UTC),
    )


async def test_equal_banks_sent_at_once_are_one(store: BankStore, tmp_path: Path) -> None:
    made = await asyncio.gather(*(store.create(bank(number), b"content") for number in range(8)))
    assert len({row.id for row, _ in made}) == 1
    assert sum(new for _, new in made) == 1
    row = made[0][0]
    assert await store.read(row) == b"content"
    unreferenced = await store.database.run(lambda session: set(session.scalars(select(UnreferencedBlob.name))))
    written = {f"banks/{path.name}" for path in (tmp_path / "banks").iterdir()}
    assert written - unreferenced == {row.blob}


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
