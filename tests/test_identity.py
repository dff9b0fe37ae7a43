"""A calibration belongs to one detector: whatever is changed of what it was made from, it refuses."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import vlm_ood as vo
from tests.fakes import FakeEncoder
from vlm_ood.calibration import Calibration
from vlm_ood.cli import build
from vlm_ood.digests import digest_of
from vlm_ood.errors import TaskError
from vlm_ood.io.files import read_tensors, write_tensors
from vlm_ood.io.vectors import load_bank, save_bank, save_features
from vlm_ood.text import text_bank
from vlm_ood.types import TextBank

ROWS = torch.tensor([[1.0, 0.1, 0.0, 0.2], [0.0, 1.0, 0.3, 0.1], [0.2, 0.0, 1.0, 0.0]])


class OtherWeights(FakeEncoder):
    """An encoder of the same name, with a digest of its own, as other weights give it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.digest = digest_of(self.digest, what)


@dataclass(frozen=True)
class Recipe:
    """Everything that a detector of the tests is made from."""

    encoder: FakeEncoder = field(default_factory=FakeEncoder)
    names: tuple[str, ...] = ("red", "lime", "blue")
    templates: tuple[str, ...] = ("a photo of a {}.",)
    negatives: tuple[str, ...] = ("yellow", "black")
    shots: torch.Tensor = field(default_factory=lambda: ROWS.repeat(1, 4))
    labels: tuple[int, ...] = (0, 1, 2)
    method: str = "neglabel"
    parameters: dict[str, Any] = field(default_factory=dict)

    def fitted(self) -> Any:
        classes = text_bank(self.encoder, self.names, templates=list(self.templates))
        negatives = text_bank(self.encoder, self.negatives, templates=list(self.templates))
        support = vo.Support(vo.ImageFeatures(self.shots), torch.tensor(self.labels))
        return vo.create_detector(self.method, **self.parameters).fit(vo.Task(classes, negatives, support=support))


CHANGES: dict[str, dict[str, Any]] = {
    "method": {"method": "mcm"},
    "parameter": {"parameters": {"temperature": 0.5}},
    "weights under one name": {"encoder": OtherWeights("weights")},
    "encoder": {"encoder": FakeEncoder(name="other")},
    "a class name": {"names": ("red", "lime", "navy")},
    "one class more": {"names": ("red", "lime", "blue", "navy")},
    "one class less": {"names": ("red", "lime"), "labels": (0, 1, 1)},
    "order of the classes": {"names": ("lime", "red", "blue")},
    "templates": {"templates": ("the {}",)},
    "one template more": {"templates": ("a photo of a {}.", "the {}")},
    "negatives": {"negatives": ("yellow", "white")},
    "order of the negatives": {"negatives": ("black", "yellow")},
    "labels": {"labels": (0, 1, 1)},
    "support": {"shots": ROWS.flip(0).repeat(1, 4)},
    "the last bits of support": {"shots": ROWS.repeat(1, 4) + 1e-6 * torch.eye(3, 16)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_calibration_refuses_when_one_ingredient_is_another(change: dict[str, Any]) -> None:
    before, after = Recipe().fitted(), replace(Recipe(), **change).fitted()
    calibration = Calibration.of([0.1, 0.2], digest=before.digest)
    calibration.check(Recipe().fitted().digest)
    with pytest.raises(TaskError, match="calibrate again"):
        calibration.check(after.digest)


def test_no_two_changes_make_one_detector() -> None:
    digests = [replace(Recipe(), **change).fitted().digest for change in ({}, *CHANGES.values())]
    assert len(set(digests)) == len(digests)


def edited(path: Path, old: float, new: float) -> None:
    """One number of the file in place of another, all else as it was."""
    content = path.read_bytes()
    before, after = struct.pack("<f", old), struct.pack("<f", new)
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))


def other_names(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b"left") == 1
    path.write_bytes(content.replace(b"left", b"lift"))


BANK = TextBank(("left", "right"), torch.tensor([[0.6, 0.8], [1.0, 0.0]]), digest="made by a recipe")


@pytest.mark.parametrize("edit", [lambda path: edited(path, 0.8, -0.8), other_names], ids=["a vector", "a name"])
def test_a_bank_that_was_edited_in_its_file_is_no_more_the_one_that_was_made(
    tmp_path: Path, edit: Callable[[Path], None]
) -> None:
    save_bank(tmp_path / "bank", BANK)
    assert load_bank(tmp_path / "bank").digest == BANK.digest
    size = (tmp_path / "bank").stat().st_size
    edit(tmp_path / "bank")
    after = load_bank(tmp_path / "bank")
    assert (tmp_path / "bank").stat().st_size == size
    assert after.digest == TextBank(after.names, after.embeddings).digest != BANK.digest


def test_a_bank_file_of_an_earlier_version_keeps_its_digest(tmp_path: Path) -> None:
    save_bank(tmp_path / "bank", BANK)
    tensors, metadata = read_tensors(tmp_path / "bank")
    write_tensors(tmp_path / "old", tensors, {"names": metadata["names"], "digest": metadata["digest"]})
    assert load_bank(tmp_path / "old").digest == BANK.digest
    write_tensors(tmp_path / "plain", tensors, {"names": metadata["names"]})
    assert load_bank(tmp_path / "plain").digest == TextBank(BANK.names, BANK.embeddings).digest


def test_the_command_line_refuses_a_calibration_after_an_edit_of_the_bank(tmp_path: Path) -> None:
    bank, features, calibration = (
        str(tmp_path / name) for name in ("bank", "features.safetensors", "calibration.json")
    )
    save_bank(bank, BANK)
    save_features(features, vo.ImageFeatures(torch.tensor([[0.6, 0.8], [1.0, 0.1], [0.5, 0.5]])))
    options = ["--bank", bank, "--features", features, "--method", "max_cosine"]
    calibrated = CliRunner().invoke(build(), ["calibrate", *options, "--out", calibration])
    assert calibrated.exit_code == 0, calibrated.output
    score = ["score", *options, "--calibration", calibration]
    assert CliRunner().invoke(build(), score).exit_code == 0
    edited(Path(bank), 0.8, -0.8)
    refused = CliRunner().invoke(build(), score)
    assert isinstance(refused.exception, TaskError)
    assert "calibrate again" in str(refused.exception)
