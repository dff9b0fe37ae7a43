"""The table of detectors."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from service.calibration.rows import CalibrationRow
from service.storage.base import Base


class DetectorRow(Base):
    """A detector of a tenant: its spec, not what was fitted."""

    __tablename__ = "detectors"
    __table_args__ = (
        Index("detectors_of_tenant", "tenant", "created_at", "id"),
        Index("detectors_of_family", "tenant", "family"),
        Index("detectors_of_content", "tenant", "digest", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))  # of the spec
    family: Mapped[str] = mapped_column(String(64))  # digest of the spec without the class names
    spec: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    calibration: Mapped[CalibrationRow | None] = relationship(cascade="all, delete-orphan", lazy="joined")
