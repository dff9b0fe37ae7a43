"""What blobs hold comes back to the bit, and labels become rows of whatever class list a detector has."""

from pathlib import Path

import pytest
import torch

from service.banks.contents import LabelledImages, bank_from_bytes, bank_to_bytes
from tests.service.banks.files import bank_file, colours, vectors
from tests.test_types import assert_same_bits, everything
from vlm_ood.errors import ClassNamesError, StorageError
from vlm_ood.io.vectors import load_features

IMAGES = LabelledImages(("cat", "dog"), torch.tensor([0, 1, 0, 0, 1]), everything(5))


def test_a_bank_comes_back_to_the_bit() -> None:
    bank = colours("red", "blå", "b, c")
    back = bank_from_bytes(bank_to_bytes(bank))
    assert back.names == bank.names
    assert torch.equal(back.embeddings, bank.embeddings)


def test_labelled_images_come_back_to_the_bit_with_all_that_they_hold() -> None:
    back = LabelledImages.from_bytes(IMAGES.to_bytes())
    assert (back.classes, back.labels.tolist(), back.per_class) == (
        ("cat", "dog"),
        [0, 1, 0, 0, 1],
        {"cat": 3, "dog": 2},
    )
    assert_same_bits(back.features, IMAGES.features)


def test_the_library_reads_stored_images(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(IMAGES.to_bytes())
    stored = load_features(tmp_path / "images")
    assert stored.labels is not None
    assert stored.labels.tolist() == [0, 1, 0, 0, 1]


def test_labels_are_rows_of_the_classes_in_their_order() -> None:
    assert IMAGES.support(["cat", "dog"]).labels.tolist() == [0, 1, 0, 0, 1]
    assert IMAGES.support(["bird", "dog", "cat"]).labels.tolist() == [2, 1, 2, 2, 1]
    with pytest.raises(ClassNamesError, match="'dog', which is not among the classes"):
        IMAGES.support(["cat", "bird"])


@pytest.mark.parametrize("content", [b"", vectors(3), bank_file(colours("red"))[:-1]])
def test_a_damaged_blob_is_a_storage_error(content: bytes) -> None:
    with pytest.raises(StorageError):
        bank_from_bytes(content)
    with pytest.raises(StorageError):
        LabelledImages.from_bytes(content)


def test_a_blob_of_the_other_kind_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="damaged"):
        bank_from_bytes(IMAGES.to_bytes())
    with pytest.raises(StorageError, match="damaged"):
        LabelledImages.from_bytes(bank_to_bytes(colours("red")))
