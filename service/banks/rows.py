"""The table of banks."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.storage.base import Base


class BankRow(Base):
    """A bank of a tenant: what it is and where it came from; its vectors are a blob."""

    __tablename__ = "banks"
    __table_args__ = (
        Index("banks_of_tenant", "tenant", "created_at", "id"),
        Index("banks_of_content", "tenant", "digest", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))  # text | support
    label: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # None: it was uploaded
    digest: Mapped[str] = mapped_column(String(64))  # of the content
    rows: Mapped[int]
    dim: Mapped[int]
    encoder: Mapped[str] = mapped_column(String(200))
    encoder_digest: Mapped[str] = mapped_column(String(64))
    blob: Mapped[str] = mapped_column(String(100))
    nbytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
