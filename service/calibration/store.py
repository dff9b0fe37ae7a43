"""Stores calibrations: one row per detector, with the scores in a blob."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from service.detectors.rows import CalibrationRow, DetectorRow
from service.errors import ConflictError, NotFoundError
from service.storage.blobs import Blobs
from service.storage.database import Database
from service.storage.tenants import locked


@dataclass(frozen=True)
class NewCalibration:
    """A calibration to be stored.

    Args:
        content: of the blob.
        keep: the share of ID images to accept.
        threshold: computed from the scores.
        images: the number of scores.
        appended: whether they include the scores of the calibration before.
    """

    content: bytes
    keep: float
    threshold: float
    images: int
    appended: bool


@dataclass(frozen=True)
class CalibrationStore:
    """Reads, replaces and deletes calibrations.

    Args:
        database: of the rows.
        blobs: of the scores.
    """

    database: Database
    blobs: Blobs

    async def read(self, row: CalibrationRow) -> bytes:
        """The content of a calibration's blob.

        Raises:
            StorageError: the file is missing or can't be read.
        """
        return await self.blobs.read(row.blob)

    async def replace(self, detector: DetectorRow, new: NewCalibration) -> None:
        """Store a calibration in place of the one that the detector had when its row was read.

        Raises:
            NotFoundError: the detector was deleted meanwhile.
            ConflictError: another request changed the calibration meanwhile.
            StorageError: it can't be written; the calibration before is still there.
        """
        blob = await self.blobs.write("calibrations", new.content)
        await self.database.run(lambda session: self._replace(session, detector, blob, new))
        await self.blobs.sweep()

    def _replace(self, session: Session, detector: DetectorRow, blob: str, new: NewCalibration) -> None:
        row = locked(session, DetectorRow, detector.tenant, detector.id, "detector")
        before, current = _blob_of(detector), _blob_of(row)
        if before != current:
            if current is not None and not new.appended and self.blobs.content(current) == new.content:
                return  # two equal requests at once both succeed; this one's blob is deleted later
            raise ConflictError("the calibration was changed by another request meanwhile: try again")
        self.blobs.refer(session, blob)
        if current is not None:
            self.blobs.release(session, current)
        values = {"blob": blob, "keep": new.keep, "threshold": new.threshold, "images": new.images}
        session.merge(CalibrationRow(detector_id=row.id, created_at=datetime.now(UTC), **values))

    async def delete(self, detector: DetectorRow) -> None:
        """Delete the calibration of a detector.

        Raises:
            NotFoundError: no such detector, or no calibration.
        """

        def work(session: Session) -> None:
            row = locked(session, DetectorRow, detector.tenant, detector.id, "detector")
            if row.calibration is None:
                raise NotFoundError(f"detector {detector.id} has no calibration")
            self.blobs.release(session, row.calibration.blob)
            row.calibration = None

        await self.database.run(work)
        await self.blobs.sweep()


def _blob_of(detector: DetectorRow) -> str | None:
    return None if detector.calibration is None else detector.calibration.blob
