"""The base class of the tables; `migrations` makes them."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, Double
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """One column type per Python type."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        float: Double,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


def utc(moment: datetime) -> datetime:
    """The moment with its time zone, which SQLite does not store."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
