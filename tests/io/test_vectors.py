"""Vectors in a store: what is broken is named, the rest is used."""

import json
from pathlib import Path

import pytest
import torch

import vlm_ood as vo
from tests.test_types import assert_same_bits, everything
from vlm_ood.errors import StorageError, VectorError
from vlm_ood.io.files import write_tensors
from vlm_ood.io.vectors import load_bank, load_features, pack_features, save_bank, save_features


def test_a_bank_comes_back_with_its_names_and_digest(tmp_path: Path) -> None:
    bank = vo.TextBank(("a", "b, c"), torch.eye(2), digest="made by hand")
    save_bank(tmp_path / "bank.safetensors", bank)
    loaded = load_bank(tmp_path / "bank.safetensors")
    assert (loaded.names, loaded.digest) == (bank.names, bank.digest)
    assert torch.equal(loaded.embeddings, bank.embeddings)


def test_features_come_back_to_the_bit_with_labels_and_names(tmp_path: Path) -> None:
    features = everything(5)
    save_features(tmp_path / "f.safetensors", features, list("vwxyz"), torch.arange(5))
    stored = load_features(tmp_path / "f.safetensors")
    assert stored.names == ("v", "w", "x", "y", "z")
    assert stored.labels is not None
    assert stored.labels.tolist() == [0, 1, 2, 3, 4]
    assert_same_bits(stored.features, features)


def test_a_grid_in_the_metadata_is_read(tmp_path: Path) -> None:
    tensors = {"features": torch.eye(2), "patches": torch.ones(2, 6, 2)}
    write_tensors(tmp_path / "f.safetensors", tensors, {"grid": "[3, 2]"})
    assert load_features(tmp_path / "f.safetensors").features.grid == (3, 2)


def test_broken_rows_are_left_out_of_all_that_belongs_to_them(tmp_path: Path) -> None:
    features = everything(5)
    tensors = pack_features(features)
    tensors["features"] = tensors["features"].clone()
    tensors["features"][2] = 0
    write_tensors(tmp_path / "f.safetensors", tensors)
    assert_same_bits(load_features(tmp_path / "f.safetensors").features, features[[0, 1, 3, 4]])


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


@pytest.mark.parametrize("names", ["not json", "7", '{"a": 1}', "[1, 2]", '["one"]'])
def test_names_that_are_not_one_string_per_row_are_refused(names: str, tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"embeddings": torch.eye(2), "features": torch.eye(2)}, {"names": names})
    with pytest.raises(VectorError, match="names"):
        load_bank(tmp_path / "x.safetensors")
    with pytest.raises(VectorError, match="names"):
        load_features(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"labels": torch.arange(3)}, {}),
        ({"labels": torch.tensor(1)}, {}),
        ({"patches": torch.ones(3, 4, 2), "grid": torch.tensor([2, 2])}, {}),
        ({"patches": torch.tensor(1.0)}, {}),
        ({"patches": torch.ones(2, 4, 2), "grid": torch.tensor([4])}, {}),
        ({"patches": torch.ones(2, 4, 2)}, {"grid": "two"}),
        ({"windows 2": torch.ones(1, 1, 2), "grid": torch.tensor([2, 2])}, {}),
        ({"stage 1": torch.ones(1, 4, 2), "stage 1 grid": torch.tensor([2, 2])}, {}),
    ],
)
def test_tensors_that_do_not_go_with_the_features_are_refused(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str], tmp_path: Path
) -> None:
    write_tensors(tmp_path / "f.safetensors", {"features": torch.eye(2), **tensors}, metadata)
    with pytest.raises(VectorError, match=r"f\.safetensors"):
        load_features(tmp_path / "f.safetensors")


def test_tensors_of_other_names_are_ignored(tmp_path: Path) -> None:
    write_tensors(tmp_path / "f.safetensors", {"features": torch.eye(2), "stage of life": torch.ones(3)})
    assert len(load_features(tmp_path / "f.safetensors").features) == 2
