"""The database tables of banks, and of the detectors and banks that use them."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, String, Table
from sqlalchemy.orm import Mapped, mapped_column

from service.storage.base import Base
from service.storage.tenants import Owned

detector_banks = Table(
    "detector_banks",
    Base.metadata,
    Column("detector_id", ForeignKey("detectors.id", ondelete="CASCADE"), primary_key=True),
    Column("bank_id", ForeignKey("banks.id"), primary_key=True),
    Index("detector_banks_used", "bank_id"),
)
bank_banks = Table(
    "bank_banks",
    Base.metadata,
    Column("user_id", ForeignKey("banks.id", ondelete="CASCADE"), primary_key=True),
    Column("bank_id", ForeignKey("banks.id"), primary_key=True),
    Index("bank_banks_used", "bank_id"),
)


class BankRow(Owned):
    """A bank of a tenant. Its vectors are in a blob, or are made from its spec."""

    __tablename__ = "banks"
    __table_args__ = (
        Index("banks_of_tenant", "tenant", "created_at", "id"),
        Index("banks_of_content", "tenant", "digest", unique=True),
    )

    kind: Mapped[str] = mapped_column(String(16))  # text | support
    label: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # None: it was uploaded
    digest: Mapped[str] = mapped_column(String(64))  # of the content
    rows: Mapped[int]  # 0 of a bank that is not made yet
    dim: Mapped[int]
    encoder: Mapped[str] = mapped_column(String(200))
    encoder_digest: Mapped[str] = mapped_column(String(64))
    blob: Mapped[str] = mapped_column(String(100))  # "" of a bank that is made from its spec
    nbytes: Mapped[int] = mapped_column(BigInteger)
