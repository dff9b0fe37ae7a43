"""The base class of the tables; `migrations` makes them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Double
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """One column type per Python type."""

    type_annotation_map = {  # noqa: RUF012
        float: Double,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON,
        list[str]: JSON,
    }
