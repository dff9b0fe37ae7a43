"""The table of calibrations."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from service.storage.base import Base


class CalibrationRow(Base):
    """The calibration of a detector; its scores are a blob."""

    __tablename__ = "calibrations"

    detector_id: Mapped[str] = mapped_column(ForeignKey("detectors.id", ondelete="CASCADE"), primary_key=True)
    blob: Mapped[str] = mapped_column(String(100))
    keep: Mapped[float]
    threshold: Mapped[float]
    images: Mapped[int]
    created_at: Mapped[datetime]
