"""From rows to what is told about them."""

from datetime import UTC, datetime

from service.calibration.records import CalibrationView
from service.calibration.rows import CalibrationRow


def calibration_view_of(row: CalibrationRow | None) -> CalibrationView | None:
    """A calibration, if there is one."""
    if row is None:
        return None
    return CalibrationView(keep=row.keep, threshold=row.threshold, images=row.images, created_at=utc(row.created_at))


def utc(moment: datetime) -> datetime:
    """SQLite forgets the time zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
