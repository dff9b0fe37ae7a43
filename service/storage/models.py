"""The tables."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, DateTime, ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

VERSION: Final = 1  # raise it with any change below


class Base(DeclarativeBase):
    """Of every table."""

    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


class SchemaVersion(Base):
    """One row: which version of these tables the database holds."""

    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ApiKey(Base):
    """A key; its token is not here."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(200))
    access: Mapped[list[str]]
    images_per_minute: Mapped[int | None]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class DetectorRow(Base):
    """A detector of a tenant: what makes it, not what was fitted."""

    __tablename__ = "detectors"
    __table_args__ = (
        Index("detectors_of_tenant", "tenant", "created_at", "id"),
        Index("detectors_of_family", "tenant", "family"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    family: Mapped[str] = mapped_column(String(64))  # of everything but the class names
    spec: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    calibration: Mapped["CalibrationRow | None"] = relationship(cascade="all, delete-orphan", lazy="joined")


class CalibrationRow(Base):
    """The calibration of a detector; its scores are an artefact."""

    __tablename__ = "calibrations"

    detector_id: Mapped[str] = mapped_column(ForeignKey("detectors.id", ondelete="CASCADE"), primary_key=True)
    artefact: Mapped[str] = mapped_column(String(64))
    keep: Mapped[float]
    threshold: Mapped[float]
    images: Mapped[int]
    created_at: Mapped[datetime]
