"""Rows as the resources write them."""

from datetime import UTC, datetime
from typing import Any

from service.banks.rows import BankRow


def bank_row(name: str, digest: str, *, tenant: str = "a", spec: dict[str, Any] | None = None) -> BankRow:
    """A bank of texts whose vectors are not stored yet."""
    return BankRow(
        id=f"bnk_{name}",
        tenant=tenant,
        kind="text",
        label="",
        spec=spec,
        digest=digest,
        rows=2,
        dim=4,
        encoder="embedded",
        encoder_digest="",
        blob="",
        nbytes=0,
        created_at=datetime.now(UTC),
    )
