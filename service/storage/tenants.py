"""Rows that belong to a tenant: another tenant's are as if they weren't there."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import String, and_, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from service.errors import NotFoundError
from service.storage.base import Base


class Owned(Base):
    """What every table of such rows has."""

    __abstract__ = True

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]


Row = TypeVar("Row", bound=Owned)


def owned(session: Session, table: type[Row], tenant: str, row_id: str, noun: str) -> Row:
    """The tenant's row of that id.

    Raises:
        NotFoundError: it has none; `noun` says of what.
    """
    row = session.get(table, row_id)
    if row is None or row.tenant != tenant:
        raise NotFoundError(f"no {noun} {row_id[:100]!r}; see GET /v1/{noun}s")
    return row


def page(
    session: Session, table: type[Row], tenant: str, limit: int, after: str | None, noun: str
) -> tuple[Sequence[Row], str | None]:
    """The tenant's newest rows, or those that follow the row `after`, and what to ask for next.

    Raises:
        NotFoundError: the tenant has no row `after`.
    """
    query = select(table).where(table.tenant == tenant)
    if after is not None:
        last = owned(session, table, tenant, after, noun)
        same_moment = and_(table.created_at == last.created_at, table.id < last.id)
        query = query.where(or_(table.created_at < last.created_at, same_moment))
    newest_first = query.order_by(table.created_at.desc(), table.id.desc())
    rows = session.scalars(newest_first.limit(limit + 1)).all()
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
