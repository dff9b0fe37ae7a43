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

# The defaults of the programs that wrote the older form.
PARAMETERS: dict[str, dict[str, Any]] = {
    "clipn": {"rule": "atd", "scale": 100.0},
    "energy": {"scale": 100.0},
    "entropy": {"scale": 100.0},
    "gen": {"scale": 100.0, "gamma": 0.1, "top": 100},
    "gl_mcm": {"temperature": 1.0, "local_weight": 1.0},
    "logit_gap": {"keep": 0.2},
    "mcm": {"temperature": 1.0},
    "msp": {"scale": 100.0},
    "neglabel": {"groups": 100, "temperature": 0.01, "form": "probability", "seed": 0},
    "negprompt": {"temperature": 1.0},
}
BANKS: dict[str, dict[str, Any]] = {
    "templates": {"templates": "single"},
    "mined": {"recipe": "neglabel", "lexicon": "wordnet-full", "words": None, "quantile": 0.95, "keep": 0.15},
}


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
    identity = {
        "method": old["method"],
        "parameters": _changed(old["parameters"], PARAMETERS.get(old["method"], {})),
        "task": {name: _identity(value) for name, value in task.items() if value is not None},
    }
    family = identity | {"task": identity["task"] | {"classes": None}}
    return {
        "spec": {"method": old["method"], "parameters": old["parameters"], "task": task},
        "digest": _digest("detector", identity),
        "family": _digest("detector family", family),
    }


def _templates(names: list[str], templates: str | list[str] | None) -> dict[str, Any] | None:
    return None if templates is None else {"kind": "templates", "names": names, "templates": templates}


def _mined(negatives: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if negatives is None else {"kind": "mined"} | negatives


def _identity(part: Any) -> Any:
    """What of a bank its digest is made of: what differs from the defaults."""
    return _changed(part, BANKS[part["kind"]]) if isinstance(part, dict) else part


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def _digest(*parts: Any) -> str:
    """SHA-256 over canonical JSON; each part is preceded by its length in 8 bytes, lowest byte first."""
    sha = hashlib.sha256()
    for part in parts:
        content = json.dumps(part, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        sha.update(len(content).to_bytes(8, "little") + content)
    return sha.hexdigest()
