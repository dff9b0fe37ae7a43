"""Stores the detectors of each tenant; a detector of another tenant is not found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.banks.made import stored_parts
from service.banks.rows import BankRow
from service.detectors.rows import CalibrationRow, DetectorRow
from service.errors import ConflictError
from service.storage.blobs import Blobs
from service.storage.database import Database
from service.storage.tenants import lock_tenant, locked, owned, page
from vlm_ood.digests import digest_of
from vlm_ood.tasks import DetectorSpec


@dataclass(frozen=True)
class DetectorStore:
    """Creates, reads and deletes detectors.

    Args:
        database: of the rows.
        blobs: of the calibrations, which are deleted with their detectors.
        max_detectors: the limit per tenant.
    """

    database: Database
    blobs: Blobs
    max_detectors: int

    async def create(self, tenant: str, spec: DetectorSpec) -> tuple[DetectorRow, bool]:
        """Store a detector; gives its row, and whether it is new: the same spec gives the same row.

        Raises:
            ConflictError: the tenant has reached its limit of detectors.
            NotFoundError: a bank of the spec was deleted meanwhile.
        """
        return await self.database.run(lambda session: self._create(session, tenant, spec))

    def _create(self, session: Session, tenant: str, spec: DetectorSpec) -> tuple[DetectorRow, bool]:
        lock_tenant(session, DetectorRow, tenant)
        same = select(DetectorRow).where(DetectorRow.tenant == tenant, DetectorRow.digest == spec.digest)
        found = session.scalar(same)
        if found is not None:
            return found, False
        count = session.scalar(select(func.count()).where(DetectorRow.tenant == tenant)) or 0
        if count >= self.max_detectors:
            raise ConflictError(f"{count} detectors exist, the limit is {self.max_detectors}: delete some")
        row = DetectorRow(
            id=id_of(tenant, spec),
            tenant=tenant,
            digest=spec.digest,
            family=spec.family,
            spec=spec.plain(),
            created_at=datetime.now(UTC),
            banks=[
                locked(session, BankRow, tenant, bank, "bank")
                for bank in sorted({part.source for part in stored_parts(spec.task)})
            ],
            calibration=None,
        )
        session.add(row)
        return row, True

    async def get(self, tenant: str, detector_id: str) -> DetectorRow:
        """A detector of the tenant.

        Raises:
            NotFoundError: the tenant has no detector with this id.
        """
        return await self.database.run(lambda session: owned(session, DetectorRow, tenant, detector_id, "detector"))

    async def page(self, tenant: str, limit: int, after: str | None) -> tuple[Sequence[DetectorRow], str | None]:
        """At most `limit` detectors, newest first or those that follow `after`; and the `after` of the next page.

        Raises:
            NotFoundError: the tenant has no detector `after`.
        """
        return await self.database.run(lambda session: page(session, DetectorRow, tenant, limit, after, "detector"))

    async def calibrated_sibling(self, row: DetectorRow) -> str | None:
        """Id of the tenant's newest calibrated detector that differs only in its classes; None if there is none."""
        siblings = (
            select(DetectorRow.id)
            .join(CalibrationRow)
            .where(DetectorRow.tenant == row.tenant, DetectorRow.family == row.family, DetectorRow.id != row.id)
            .order_by(DetectorRow.created_at.desc())
            .limit(1)
        )
        return await self.database.run(lambda session: session.scalar(siblings))

    async def delete(self, tenant: str, detector_id: str) -> None:
        """Delete a detector and its calibration.

        Raises:
            NotFoundError: the tenant has no detector with that id.
        """

        def work(session: Session) -> None:
            row = locked(session, DetectorRow, tenant, detector_id, "detector")
            if row.calibration is not None:
                self.blobs.release(session, row.calibration.blob)
            session.delete(row)

        await self.database.run(work)
        await self.blobs.sweep()


def id_of(tenant: str, spec: DetectorSpec) -> str:
    """The id of a tenant's detector with this spec; older databases contain ids that were computed in another way."""
    return f"det_{digest_of(tenant, spec.digest)[:24]}"
