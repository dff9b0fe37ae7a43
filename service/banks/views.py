"""Makes the records of answers from rows of banks."""

from typing import Any

from service.banks.made import Content
from service.banks.records import BankKind, BankSummary, BankView, PreviewRow, State
from service.banks.rows import BankRow
from service.images.answers import ImageAnswer
from service.storage.base import utc
from vlm_ood.types import TextBank


def summary_of(row: BankRow) -> BankSummary:
    """The record of a bank in a list."""
    return BankSummary(**_facts(row))


def view_of(
    row: BankRow,
    state: tuple[State, str | None],
    content: Content | None,
    preview: list[PreviewRow] | None = None,
    failed: list[ImageAnswer] | None = None,
) -> BankView:
    """The record of one bank.

    Args:
        row: of the bank.
        state: of its preparation, and the error if it failed.
        content: None if it is not ready.
        preview: of its names.
        failed: images that could not be used when it was made.
    """
    facts = _facts(row)
    if content is not None:
        facts["rows"] = len(content)
    return BankView(
        **facts,
        state=state[0],
        error=state[1],
        spec=None if row.spec is None else _referring(row.spec),
        preview=preview,
        images_per_class=None if content is None or isinstance(content, TextBank) else content.per_class,
        failed=failed or [],
    )


def _facts(row: BankRow) -> dict[str, Any]:
    kind: BankKind = "support" if row.kind == "support" else "text"
    return {
        "id": row.id,
        "kind": kind,
        "label": row.label,
        "encoder": row.encoder,
        "rows": row.rows or None,
        "dim": row.dim,
        "digest": row.digest,
        "created_at": utc(row.created_at),
    }


def _referring(plain: dict[str, Any]) -> dict[str, Any]:
    """The spec in the form of a request: stored banks by their ids."""
    if plain.get("kind") == "stored":
        return {"bank": plain["source"]}
    return {name: _referring(value) if isinstance(value, dict) else value for name, value in plain.items()}
