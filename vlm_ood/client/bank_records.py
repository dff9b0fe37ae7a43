"""The records of banks in responses, and how requests refer to a bank."""

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
    """A row of a bank that is similar to another row, and the cosine of the two vectors."""

    name: str
    cosine: float


@dataclass(frozen=True)
class PreviewRow:
    """A name of a bank, and the names whose vectors are most similar to its vector."""

    name: str
    nearest: tuple[NearRow, ...]


@dataclass(frozen=True)
class BankInfo:
    """A bank that the server stores; in a list only the first eight fields are set.

    Args:
        id: the id by which requests refer to it.
        kind: "text": names with a vector each; "support": labelled images.
        label: a note for people.
        encoder: the name of the encoder that made the vectors.
        rows: the number of names or images; None while the server makes the bank.
        dim: the dimension of the vectors.
        digest: the digest of the content.
        created_at: when it was first stored.
        state: "cold" (stored, and prepared when it is needed), "preparing", "ready" or "failed".
        error: why it failed.
        spec: what the server makes it from; None for an uploaded bank.
        preview: the first names; None for labelled images.
        images_per_class: {class: number of images}; None for names.
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
"""A bank that the server stores: as the client returned it, or a `StoredBank` or `StoredSupport` with its id."""


def names_or_bank(classes: Sequence[str] | Bank) -> Any:
    """The JSON value for classes: a list of names, or a reference to a bank.

    Raises:
        ClassNamesError: the classes are one string instead of a list of names.
    """
    if isinstance(classes, str):
        raise ClassNamesError(f"classes is the string {classes[:50]!r}: give a list of names")
    return plain(classes) if isinstance(classes, Bank) else list(classes)


def plain(value: Any) -> Any:
    """The JSON reference to a bank; other values unchanged."""
    if isinstance(value, StoredBank | StoredSupport):
        return {"bank": value.source}
    return {"bank": value.id} if isinstance(value, BankInfo) else value


def _stored(value: Any) -> Any:
    return StoredBank(value["bank"]) if isinstance(value, Mapping) and value.keys() == {"bank"} else value


AsBank: Final = BeforeValidator(_stored)
"""Reads the JSON value {"bank": id} as a `StoredBank`."""
