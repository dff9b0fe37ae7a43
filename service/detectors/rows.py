"""The database tables of detectors and of their calibrations."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from service.banks.rows import BankRow, detector_banks
from service.storage.base import Base
from service.storage.tenants import Owned


class CalibrationRow(Base):
    """The calibration of a detector; its scores are a blob."""

    __tablename__ = "calibrations"

    detector_id: Mapped[str] = mapped_column(ForeignKey("detectors.id", ondelete="CASCADE"), primary_key=True)
    blob: Mapped[str] = mapped_column(String(100))
    keep: Mapped[float]
    threshold: Mapped[float]
    images: Mapped[int]
    created_at: Mapped[datetime]


class DetectorRow(Owned):
    """A detector of a tenant, stored as its spec; the fitted detector is not stored."""

    __tablename__ = "detectors"
    __table_args__ = (
        Index("detectors_of_tenant", "tenant", "created_at", "id"),
        Index("detectors_of_family", "tenant", "family"),
        Index("detectors_of_content", "tenant", "digest", unique=True),
    )

    digest: Mapped[str] = mapped_column(String(64))  # of the spec
    family: Mapped[str] = mapped_column(String(64))  # digest of the spec without the class names
    spec: Mapped[dict[str, Any]]
    banks: Mapped[list[BankRow]] = relationship(secondary=detector_banks, lazy="subquery")
    calibration: Mapped[CalibrationRow | None] = relationship(cascade="all, delete-orphan", lazy="joined")
