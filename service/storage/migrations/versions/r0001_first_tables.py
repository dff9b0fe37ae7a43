"""Keys, detectors and calibrations, as programs without migrations made them.

Each is made only where it is missing, so that a database of such a program becomes one of this revision, even when it
was killed half-way.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is missing."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("access", sa.JSON(), nullable=False),
        sa.Column("images_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        if_not_exists=True,
    )
    op.create_table(
        "detectors",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        if_not_exists=True,
    )
    op.create_index("detectors_of_tenant", "detectors", ["tenant", "created_at", "id"], if_not_exists=True)
    op.create_index("detectors_of_family", "detectors", ["tenant", "family"], if_not_exists=True)
    op.create_table(
        "calibrations",
        sa.Column("detector_id", sa.String(40), sa.ForeignKey("detectors.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("artefact", sa.String(64), nullable=False),
        sa.Column("keep", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        if_not_exists=True,
    )
