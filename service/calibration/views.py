"""From rows to wire records."""

from datetime import UTC, datetime

from service.calibration.records import CalibrationView
from service.calibration.rows import CalibrationRow


def calibration_view_of(row: CalibrationRow | None) -> CalibrationView | None:
    """The record of a calibration; None where there is none."""
    if row is None:
        return None
    return CalibrationView(keep=row.keep, threshold=row.threshold, images=row.images, created_at=utc(row.created_at))


def utc(moment: datetime) -> datetime:
    """The moment with its time zone, which SQLite does not store."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
