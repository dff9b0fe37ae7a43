"""A detector's spec holds its task, and the digest of the spec finds the row, whatever its id.

Ids were computed from the content of the older form; they stay.
"""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

detectors = sa.table(
    "detectors",
    sa.column("id", sa.String),
    sa.column("spec", sa.JSON),
    sa.column("digest", sa.String),
    sa.column("family", sa.String),
)


def upgrade() -> None:
    """The column, its values for the rows that are there, and one row per tenant and content."""
    op.add_column("detectors", sa.Column("digest", sa.String(64), nullable=True))
    connection = op.get_bind()
    for detector_id in connection.scalars(sa.select(detectors.c.id)).all():
        this = detectors.c.id == detector_id
        old = connection.scalar(sa.select(detectors.c.spec).where(this))  # one at a time: each may name 10,000 classes
        connection.execute(sa.update(detectors).where(this).values(**converted(old)))
    with op.batch_alter_table("detectors") as table:
        table.alter_column("digest", existing_type=sa.String(64), nullable=False)
    op.create_index("detectors_of_content", "detectors", ["tenant", "digest"], unique=True)


def converted(old: Any) -> dict[str, Any]:
    """The columns of a detector from its spec in the older form."""
    task = {
        "encoder": old["encoder"],
        "classes": _templates(old["classes"], old["templates"]),
        "negatives": _mined(old["negatives"]),
        "no": _templates(old["classes"], old["no_templates"]),
        "support": None,
    }
    spec = {"method": old["method"], "parameters": old["parameters"], "task": task}
    family = spec | {"task": task | {"classes": None}}
    return {"spec": spec, "digest": _digest("detector", spec), "family": _digest("detector family", family)}


def _templates(names: list[str], templates: str | list[str] | None) -> dict[str, Any] | None:
    return None if templates is None else {"kind": "templates", "names": names, "templates": templates}


def _mined(negatives: dict[str, Any] | None) -> dict[str, Any] | None:
    """With the values that were fixed then and may be given now."""
    if negatives is None:
        return None
    fixed = {"only": [], "under": [], "not_under": [], "synonyms": True, "seed": 0, "templates": None, "classes": None}
    return {"kind": "mined"} | negatives | fixed


def _digest(*parts: Any) -> str:
    """SHA-256 over canonical JSON; each part is preceded by its length in 8 bytes, lowest byte first."""
    sha = hashlib.sha256()
    for part in parts:
        content = json.dumps(part, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        sha.update(len(content).to_bytes(8, "little") + content)
    return sha.hexdigest()
