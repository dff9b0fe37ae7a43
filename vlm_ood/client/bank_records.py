"""The records of banks that a server answers with, and how requests refer to a bank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import BeforeValidator

from vlm_ood.errors import ClassNamesError
from vlm_ood.results import ImageResult
from vlm_ood.tasks import StoredBank, StoredSupport


@dataclass(frozen=True)
class NearRow:
    """A row of a bank that is near to another, with their cosine."""

    name: str
    cosine: float


@dataclass(frozen=True)
class PreviewRow:
    """A name of a bank, and the names whose vectors are most like its own."""

    name: str
    nearest: tuple[NearRow, ...]


@dataclass(frozen=True)
class BankInfo:
    """A bank kept by the server; in a list only the first eight fields are set.

    Args:
        id: by which requests refer to it.
        kind: "text": names with a vector each; "support": labelled images.
        label: for people.
        encoder: whose vectors it holds.
        rows: names or images; None until a bank that the server makes is made.
        dim: of the vectors.
        digest: of the content.
        created_at: when it was first stored.
        state: "cold" (stored, and prepared when it is needed), "preparing", "ready" or "failed".
        error: why it failed.
        spec: what the server makes it from; None when it was uploaded.
        preview: the first names; None of images.
        images_per_class: of labelled images.
        failed: one result per file that could not be used, with its error.
    """

    id: str
    kind: str
    label: str
    encoder: str
    rows: int | None
    dim: int
    digest: str
    created_at: datetime
    state: str | None = None
    error: str | None = None
    spec: Mapping[str, Any] | None = None
    preview: tuple[PreviewRow, ...] | None = None
    images_per_class: Mapping[str, int] | None = None
    failed: tuple[ImageResult, ...] = ()


Bank = BankInfo | StoredBank | StoredSupport
"""A bank of the server in the place of what it is made from: as the client answered it, or by its id."""


def names_or_bank(classes: Sequence[str] | Bank) -> Any:
    """Classes as JSON has them.

    Raises:
        ClassNamesError: one string in place of a list of names.
    """
    if isinstance(classes, str):
        raise ClassNamesError(f"classes is the string {classes[:50]!r}: give a list of names")
    return plain(classes) if isinstance(classes, Bank) else list(classes)


def plain(value: Any) -> Any:
    """A bank as the reference that JSON has for it; anything else unchanged."""
    if isinstance(value, StoredBank | StoredSupport):
        return {"bank": value.source}
    return {"bank": value.id} if isinstance(value, BankInfo) else value


def _stored(value: Any) -> Any:
    return StoredBank(value["bank"]) if isinstance(value, Mapping) and value.keys() == {"bank"} else value


AsBank: Final = BeforeValidator(_stored)
"""Reads {"bank": id} of JSON as a `StoredBank`."""
