"""The contents of stored banks, and their format in blobs."""

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
    """The bank in safetensors format; `bank_from_bytes` gives back the same bits."""
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
    """Features of images with class labels.

    Args:
        classes: distinct names, in the order of their first image.
        labels: (s,) indices into `classes`.
        features: of the s images.
    """

    classes: tuple[str, ...]
    labels: Int[Tensor, " s"]
    features: ImageFeatures

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def per_class(self) -> dict[str, int]:
        """{class: number of its images}."""
        counts: list[int] = self.labels.bincount(minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def support(self, names: Sequence[str]) -> Support:
        """The images as a `Support`, with labels as indices into `names`.

        Raises:
            ClassNamesError: a label is not among the names.
        """
        check_labels(self.classes, names)
        rows = {name: row for row, name in enumerate(names)}
        return Support(self.features, torch.tensor([rows[name] for name in self.classes])[self.labels])

    def to_bytes(self) -> bytes:
        """The images in safetensors format; `from_bytes` gives back the same bits, and `load_features` reads it too."""
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
    """Check that every label is a class name.

    Raises:
        ClassNamesError: some are not; it shows the first five.
    """
    known = set(names)
    strange = [label for label in labels if label not in known]
    if strange:
        shown = ", ".join(map(repr, strange[:5])) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
        raise ClassNamesError(
            f"labelled images of {shown}, which {'is' if len(strange) == 1 else 'are'} not among the classes: "
            "name these classes, or upload images of the classes alone"
        )
