"""The table of detectors."""

from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from service.banks.rows import BankRow, detector_banks
from service.calibration.rows import CalibrationRow
from service.storage.tenants import Owned


class DetectorRow(Owned):
    """A detector of a tenant: its spec, not what was fitted."""

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
