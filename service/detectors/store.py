"""Detectors and their calibrations by tenant; another tenant's are as if they weren't."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.calibration.rows import CalibrationRow
from service.detectors.rows import DetectorRow
from service.errors import ConflictError, NotFoundError
from service.storage.blobs import Artefacts
from service.storage.database import Database
from vlm_ood.digests import digest_of
from vlm_ood.tasks import DetectorSpec


@dataclass(frozen=True)
class NewCalibration:
    """A calibration to be stored."""

    content: bytes
    keep: float
    threshold: float
    images: int


@dataclass(frozen=True)
class DetectorStore:
    """Rows in the database, calibration scores in files.

    Args:
        database: of the rows.
        artefacts: of the scores.
        max_detectors: of one tenant.
    """

    database: Database
    artefacts: Artefacts
    max_detectors: int

    async def create(self, tenant: str, spec: DetectorSpec) -> tuple[DetectorRow, bool]:
        """The row of this content, and whether it is new.

        Raises:
            ConflictError: the tenant has as many as it may have.
        """
        try:
            return await self.database.run(lambda session: self._create(session, tenant, spec))
        except IntegrityError:  # another request stored the same a moment ago
            return await self.database.run(lambda session: self._create(session, tenant, spec))

    def _create(self, session: Session, tenant: str, spec: DetectorSpec) -> tuple[DetectorRow, bool]:
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
            calibration=None,
        )
        session.add(row)
        return row, True

    async def get(self, tenant: str, detector_id: str) -> DetectorRow:
        """A detector of the tenant.

        Raises:
            NotFoundError: it has none of that id.
        """
        return await self.database.run(lambda session: _owned(session, tenant, detector_id))

    async def page(self, tenant: str, limit: int, after: str | None) -> tuple[Sequence[DetectorRow], str | None]:
        """The newest detectors, or those that follow `after`, and what to ask for next.

        Raises:
            NotFoundError: nothing of the tenant's is called `after`.
        """

        def work(session: Session) -> Sequence[DetectorRow]:
            query = select(DetectorRow).where(DetectorRow.tenant == tenant)
            if after is not None:
                last = _owned(session, tenant, after)
                same_moment = and_(DetectorRow.created_at == last.created_at, DetectorRow.id < last.id)
                query = query.where(or_(DetectorRow.created_at < last.created_at, same_moment))
            newest_first = query.order_by(DetectorRow.created_at.desc(), DetectorRow.id.desc())
            return session.scalars(newest_first.limit(limit + 1)).all()

        rows = await self.database.run(work)
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None

    async def calibrated_sibling(self, row: DetectorRow) -> str | None:
        """The newest calibrated detector of the tenant that differs in its class names alone."""
        siblings = (
            select(DetectorRow.id)
            .join(CalibrationRow)
            .where(DetectorRow.tenant == row.tenant, DetectorRow.family == row.family, DetectorRow.id != row.id)
            .order_by(DetectorRow.created_at.desc())
            .limit(1)
        )
        return await self.database.run(lambda session: session.scalar(siblings))

    async def delete(self, tenant: str, detector_id: str) -> None:
        """Forget a detector and its calibration.

        Raises:
            NotFoundError: the tenant has none of that id.
        """

        def work(session: Session) -> str | None:
            row = _owned(session, tenant, detector_id)
            artefact = None if row.calibration is None else row.calibration.artefact
            session.delete(row)
            return artefact

        await self._drop(await self.database.run(work))

    async def calibrate(self, row: DetectorRow, new: NewCalibration) -> CalibrationRow:
        """Put a calibration in the place of the one that the row had when it was read.

        Raises:
            ConflictError: it has another one by now.
            StorageError: no room; what was there still is.
        """
        artefact = await self.database.in_thread(lambda: self.artefacts.put(row.id, new.content))
        old = row.calibration.artefact if row.calibration else None
        try:
            stored = await self.database.run(lambda session: _replace(session, row.id, old, artefact, new))
        except BaseException:
            if artefact != old:
                await self._drop(artefact)
            raise
        if old != artefact:
            await self._drop(old)
        return stored

    async def uncalibrate(self, tenant: str, detector_id: str) -> None:
        """Forget a detector's calibration.

        Raises:
            NotFoundError: no such detector, or no calibration.
        """

        def work(session: Session) -> str:
            row = _owned(session, tenant, detector_id)
            if row.calibration is None:
                raise NotFoundError(f"detector {detector_id} has no calibration")
            artefact, row.calibration = row.calibration.artefact, None
            return artefact

        await self._drop(await self.database.run(work))

    async def _drop(self, artefact: str | None) -> None:
        if artefact is not None:
            await self.database.in_thread(lambda: self.artefacts.drop(artefact))


def id_of(tenant: str, spec: DetectorSpec) -> str:
    """What a tenant's detector of this content is called."""
    return f"det_{digest_of(tenant, spec.digest)[:24]}"


def _owned(session: Session, tenant: str, detector_id: str) -> DetectorRow:
    row = session.get(DetectorRow, detector_id)
    if row is None or row.tenant != tenant:
        raise NotFoundError(f"no detector {detector_id[:100]!r}; see GET /v1/detectors")
    return row


def _replace(session: Session, detector_id: str, old: str | None, artefact: str, new: NewCalibration) -> CalibrationRow:
    values = {
        "artefact": artefact,
        "keep": new.keep,
        "threshold": new.threshold,
        "images": new.images,
        "created_at": datetime.now(UTC),
    }
    if old is None:
        session.add(CalibrationRow(detector_id=detector_id, **values))
        try:
            session.flush()
        except IntegrityError:
            raise ConflictError(
                "the detector was deleted or calibrated by somebody else meanwhile: try again"
            ) from None
    else:
        mine = (CalibrationRow.detector_id == detector_id, CalibrationRow.artefact == old)
        if session.execute(update(CalibrationRow).where(*mine).values(**values)).rowcount != 1:  # type: ignore[attr-defined]
            raise ConflictError("the calibration was changed by somebody else meanwhile: try again")
    return CalibrationRow(detector_id=detector_id, **values)
