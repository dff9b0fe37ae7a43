"""Rows that belong to a tenant: those of other tenants are not found."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Executable, String, and_, func, or_, select, update
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
    row = None if "\0" in row_id else session.get(table, row_id)  # PostgreSQL has no text with a NUL
    if row is None or row.tenant != tenant:
        raise NotFoundError(f"no {noun} {row_id[:100]!r}; see GET /v1/{noun}s")
    return row


def lock_tenant(session: Session, table: type[Row], tenant: str) -> None:
    """Wait for every other transaction that has called this for the tenant; those after it wait for this one.

    To be called first in a transaction that counts the tenant's rows before it adds one. On PostgreSQL it is an
    advisory lock; on SQLite an update of no row makes this transaction the only writer.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(tenant, 0))))
    else:
        session.execute(_touch(table, tenant, ""))


def locked(session: Session, table: type[Row], tenant: str, row_id: str, noun: str) -> Row:
    """What `owned` gives; no other transaction changes it before this one ends, if it asks for it in this way too.

    To be called before the row is read in the transaction. An update that changes nothing locks the row on PostgreSQL
    and makes this transaction the only writer on SQLite, so that what is read after it is still true when it commits.
    """
    session.execute(_touch(table, tenant, row_id))
    return owned(session, table, tenant, row_id, noun)


def _touch(table: type[Row], tenant: str, row_id: str) -> Executable:
    """An update of the tenant's row that changes nothing."""
    touch = update(table).where(table.id == row_id, table.tenant == tenant).values(tenant=table.tenant)
    return touch.execution_options(synchronize_session=False)


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
