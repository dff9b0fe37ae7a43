"""Files get names that are never used again, and a list says which of them no row refers to."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """The list, and names of files that start with their folder."""
    op.create_table(
        "unreferenced_blobs",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    )
    with op.batch_alter_table("calibrations") as table:
        table.alter_column(
            "artefact",
            new_column_name="blob",
            existing_type=sa.String(64),
            type_=sa.String(100),
            existing_nullable=False,
        )
    op.execute("UPDATE calibrations SET blob = 'calibrations/' || blob")
