"""What stored banks hold, and how it is kept in blobs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vlm_ood.errors import ClassNamesError, StorageError
from vlm_ood.io.files import tensors_from_bytes, tensors_to_bytes
from vlm_ood.io.vectors import pack_features, unpack_features
from vlm_ood.types import ImageFeatures, Support, TextBank


def bank_to_bytes(bank: TextBank) -> bytes:
    """What `bank_from_bytes` reads, to the bit."""
    return tensors_to_bytes({"embeddings": bank.embeddings}, {"names": json.dumps(bank.names)})


def bank_from_bytes(content: bytes) -> TextBank:
    """The bank that `bank_to_bytes` wrote.

    Raises:
        StorageError: something else.
    """
    tensors, metadata = tensors_from_bytes(content)
    try:
        return TextBank(tuple(json.loads(metadata["names"])), tensors["embeddings"])
    except (LookupError, ValueError) as error:
        raise StorageError(f"a stored bank is damaged: {error}; restore a backup or upload it again") from error


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of known classes, without an order among the classes.

    Args:
        classes: each once.
        labels: (s,) rows of `classes`.
        features: of the s images.
    """

    classes: tuple[str, ...]
    labels: Int[Tensor, " s"]
    features: ImageFeatures

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def per_class(self) -> dict[str, int]:
        """How many images each class has."""
        counts: list[int] = self.labels.bincount(minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def support(self, names: Sequence[str]) -> Support:
        """The images with labels that are rows of these names.

        Raises:
            ClassNamesError: a label is not among the names.
        """
        check_labels(self.classes, names)
        rows = {name: row for row, name in enumerate(names)}
        return Support(self.features, torch.tensor([rows[name] for name in self.classes])[self.labels])

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads, to the bit; `load_features` reads it, too."""
        return tensors_to_bytes(
            pack_features(self.features) | {"labels": self.labels}, {"classes": json.dumps(self.classes)}
        )

    @staticmethod
    def from_bytes(content: bytes) -> "LabelledImages":
        """The images that `to_bytes` wrote.

        Raises:
            StorageError: something else.
        """
        tensors, metadata = tensors_from_bytes(content)
        try:
            features = unpack_features(tensors)
            return LabelledImages(tuple(json.loads(metadata["classes"])), tensors["labels"], features)
        except (LookupError, ValueError) as error:
            raise StorageError(f"stored images are damaged: {error}; restore a backup or upload them again") from error


def check_labels(labels: Sequence[str], names: Sequence[str]) -> None:
    """Refuse labels that are no class names.

    Raises:
        ClassNamesError: with the first of them.
    """
    known = set(names)
    strange = [label for label in labels if label not in known]
    if strange:
        shown = ", ".join(map(repr, strange[:5])) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
        raise ClassNamesError(
            f"labelled images of {shown}, which {'is' if len(strange) == 1 else 'are'} not among the classes: "
            "name these classes, or upload images of the classes alone"
        )
