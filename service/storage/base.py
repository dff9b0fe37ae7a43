"""The tables."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

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
