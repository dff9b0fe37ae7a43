"""Which detectors and banks use a bank, so that a bank in use is not deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Two tables of pairs; a used bank can't be deleted, its user can."""
    for table, user, users in (
        ("detector_banks", "detector_id", "detectors.id"),
        ("bank_banks", "user_id", "banks.id"),
    ):
        op.create_table(
            table,
            sa.Column(user, sa.String(40), sa.ForeignKey(users, ondelete="CASCADE"), primary_key=True),
            sa.Column("bank_id", sa.String(40), sa.ForeignKey("banks.id"), primary_key=True),
        )
        op.create_index(f"{table}_used", table, ["bank_id"])
