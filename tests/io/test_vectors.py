"""Vectors in a store: what is broken is named, the rest is used."""

import json
from pathlib import Path

import pytest
import torch

import vlm_ood as vo
from vlm_ood.errors import StorageError, VectorError
from vlm_ood.io.files import write_tensors
from vlm_ood.io.vectors import load_bank, load_features, save_bank, save_features


def test_a_bank_comes_back_with_its_names_and_digest(tmp_path: Path) -> None:
    bank = vo.TextBank(("a", "b, c"), torch.eye(2), digest="made by hand")
    save_bank(tmp_path / "bank.safetensors", bank)
    loaded = load_bank(tmp_path / "bank.safetensors")
    assert (loaded.names, loaded.digest) == (bank.names, bank.digest)
    assert torch.equal(loaded.embeddings, bank.embeddings)


def test_features_come_back_with_patches_labels_and_names(tmp_path: Path) -> None:
    features = vo.ImageFeatures(torch.eye(2), torch.ones(2, 4, 2), (2, 2))
    save_features(tmp_path / "f.safetensors", features, ["x", "y"], torch.tensor([1, 0]))
    stored = load_features(tmp_path / "f.safetensors")
    assert stored.names == ("x", "y")
    assert stored.labels is not None
    assert stored.labels.tolist() == [1, 0]
    assert stored.features.grid == (2, 2)


def test_broken_rows_are_named_and_the_others_kept(tmp_path: Path) -> None:
    vectors = torch.ones(5, 3)
    vectors[1], vectors[3, 0] = 0, float("nan")
    write_tensors(tmp_path / "f.safetensors", {"features": vectors, "labels": torch.arange(5)})
    stored = load_features(tmp_path / "f.safetensors")
    assert stored.rows == (0, 2, 4)
    assert sorted(stored.errors) == [1, 3]
    assert stored.labels is not None
    assert stored.labels.tolist() == [0, 2, 4]
    assert stored.names[3] == "row 3"


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"weights": torch.ones(2)})
    with pytest.raises(VectorError, match="features need the tensor 'features'"):
        load_features(tmp_path / "x.safetensors")
    with pytest.raises(VectorError, match="a bank needs the tensor 'embeddings'"):
        load_bank(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"PK\x03\x04")
    with pytest.raises(StorageError, match="not a readable safetensors file"):
        load_bank(tmp_path / "y.safetensors")


def test_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "f.safetensors", {"features": torch.ones(2, 3)}, {"names": json.dumps(["one"])})
    with pytest.raises(VectorError, match="1 names for 2 rows"):
        load_features(tmp_path / "f.safetensors")
