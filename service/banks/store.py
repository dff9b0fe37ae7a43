"""Stores the banks of each tenant; a bank of another tenant is not found."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, select, union, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.banks.rows import BankRow, bank_banks, detector_banks
from service.errors import ConflictError, NotFoundError
from service.storage.blobs import Blobs
from service.storage.database import Database
from service.storage.tenants import lock_tenant, locked, owned, page

NAMED = 5  # users of a bank that an error lists


@dataclass(frozen=True)
class BankStore:
    """Creates, reads and deletes banks: rows in the database, vectors in blobs.

    Args:
        database: of the rows.
        blobs: of the vectors.
        max_banks: the limit per tenant.
        max_bytes: the limit per tenant on the blobs of banks together.
    """

    database: Database
    blobs: Blobs
    max_banks: int
    max_bytes: int

    async def create(self, row: BankRow, content: bytes | None, uses: Sequence[str] = ()) -> tuple[BankRow, bool]:
        """Store a bank; gives its row, and whether it is new: the same content gives the same row.

        Args:
            row: not stored yet.
            content: of its blob; None for a bank that is made from its spec.
            uses: ids of the banks that it is made from.

        Raises:
            ConflictError: the tenant has reached its limit of banks or bytes.
            NotFoundError: a bank that it is made from was deleted meanwhile.
            StorageError: the blob can't be written.
        """
        row.nbytes = len(content or b"")
        found = await self.same(row)
        if found is not None:
            return found, False
        row.blob = "" if content is None else await self.blobs.write("banks", content)
        return await self.database.run(lambda session: self._create(session, row, uses))

    def _create(self, session: Session, row: BankRow, uses: Sequence[str]) -> tuple[BankRow, bool]:
        lock_tenant(session, BankRow, row.tenant)
        found = _same(session, row)
        if found is not None:  # another request stored it meanwhile; this one's blob is deleted later
            return found, False
        self._check_room(session, row.tenant, row.nbytes)
        if row.blob:
            self.blobs.refer(session, row.blob)
        session.add(row)
        session.flush()
        for used in uses:
            locked(session, BankRow, row.tenant, used, "bank")
            session.execute(insert(bank_banks).values(user_id=row.id, bank_id=used))
        return row, True

    async def same(self, row: BankRow) -> BankRow | None:
        """The stored row of the same tenant and content; None if there is none and the tenant may store it.

        Raises:
            ConflictError: there is none, and the tenant has reached its limit of banks or bytes.
        """

        def work(session: Session) -> BankRow | None:
            found = _same(session, row)
            if found is None:
                self._check_room(session, row.tenant, row.nbytes or 0)
            return found

        return await self.database.run(work)

    async def check_room(self, tenant: str) -> None:
        """Check that the tenant may store another bank, before any work is done.

        Raises:
            ConflictError: the tenant has reached its limit of banks or bytes.
        """
        await self.database.run(lambda session: self._check_room(session, tenant, 1))

    async def get(self, tenant: str, bank_id: str) -> BankRow:
        """A bank of the tenant.

        Raises:
            NotFoundError: the tenant has no bank with this id.
        """
        return await self.database.run(lambda session: owned(session, BankRow, tenant, bank_id, "bank"))

    async def find(self, bank_id: str) -> BankRow:
        """A bank of any tenant; only for an id that was checked to be of the caller's tenant.

        Raises:
            NotFoundError: it was deleted.
        """
        row = await self.database.run(lambda session: session.get(BankRow, bank_id))
        if row is None:
            raise NotFoundError(f"bank {bank_id[:100]!r} was deleted: name another")
        return row

    async def page(self, tenant: str, limit: int, after: str | None) -> tuple[Sequence[BankRow], str | None]:
        """At most `limit` banks, newest first or those that follow `after`; and the `after` of the next page.

        Raises:
            NotFoundError: the tenant has no bank `after`.
        """
        return await self.database.run(lambda session: page(session, BankRow, tenant, limit, after, "bank"))

    async def count(self, row: BankRow, rows: int) -> None:
        """Store how many rows a bank has that was made from its spec, if the bank is stored already."""
        mine = BankRow.tenant == row.tenant
        uncounted = update(BankRow).where(mine, BankRow.digest == row.digest, BankRow.rows == 0).values(rows=rows)
        await self.database.run(lambda session: session.execute(uncounted))

    async def read(self, row: BankRow) -> bytes:
        """The content of a bank's blob.

        Raises:
            StorageError: the file is missing or can't be read.
        """
        return await self.blobs.read(row.blob)

    async def delete(self, tenant: str, bank_id: str) -> None:
        """Delete a bank.

        Raises:
            NotFoundError: the tenant has none of that id.
            ConflictError: a detector or another bank uses it.
        """

        def work(session: Session) -> None:
            row = locked(session, BankRow, tenant, bank_id, "bank")
            _check_unused(session, row)
            if row.blob:
                self.blobs.release(session, row.blob)
            session.delete(row)

        try:
            await self.database.run(work)
        except IntegrityError:
            raise ConflictError(f"bank {bank_id} was taken into use a moment ago: delete its user first") from None
        await self.blobs.sweep()

    def _check_room(self, session: Session, tenant: str, nbytes: int) -> None:
        mine = BankRow.tenant == tenant
        count, held = session.execute(
            select(func.count(), func.coalesce(func.sum(BankRow.nbytes), 0)).where(mine)
        ).one()
        if count >= self.max_banks:
            raise ConflictError(f"{count} banks exist, the limit is {self.max_banks}: delete some")
        if held + nbytes > self.max_bytes:
            raise ConflictError(
                f"banks of {held:,} bytes exist, {nbytes:,} more are over the limit of {self.max_bytes:,}: delete some"
            )


def _same(session: Session, row: BankRow) -> BankRow | None:
    return session.scalar(select(BankRow).where(BankRow.tenant == row.tenant, BankRow.digest == row.digest))


def _check_unused(session: Session, row: BankRow) -> None:
    detectors = select(detector_banks.c.detector_id).where(detector_banks.c.bank_id == row.id)
    banks = select(bank_banks.c.user_id).where(bank_banks.c.bank_id == row.id)
    users = session.scalars(union(detectors, banks)).all()
    if users:
        shown = ", ".join(sorted(users)[:NAMED]) + (f" and {len(users) - NAMED} more" if len(users) > NAMED else "")
        raise ConflictError(f"bank {row.id} is used by {shown}: delete {'it' if len(users) == 1 else 'them'} first")
