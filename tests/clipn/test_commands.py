import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.clipn.test_importer import released
from tests.clipn.tiny import tiny_architecture, tiny_encoder
from vlm_ood.cli import build
from vlm_ood.io.vectors import load_bank


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    with tiny_architecture():
        yield


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(build(), list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_train_then_bank_then_score(colour_table: Path, tmp_path: Path) -> None:
    encoder = "--encoder", "random:tiny", "--device", "cpu"
    classes = "--classes", "red,blue"
    run("clipn-train", colour_table, "-o", tmp_path / "run", "--epochs", "1", "--batch-size", "4", *encoder)
    run(
        "clipn-bank", "-o", tmp_path / "no", *classes, "--no-tower", tmp_path / "run" / "no_tower.safetensors", *encoder
    )
    picture = colour_table.parent / "red.png"
    answer = json.loads(run("score", picture, *classes, "-m", "clipn", "--no", tmp_path / "no", "--json", *encoder))
    assert "red.png" in json.dumps(answer)
    assert load_bank(tmp_path / "no").names == ("red", "blue")


def test_a_bank_without_a_no_tower_needs_no_training(tmp_path: Path) -> None:
    run("clipn-bank", "-o", tmp_path / "no", "--classes", "red,blue", "-e", "random:tiny", "--device", "cpu")
    assert load_bank(tmp_path / "no").names == ("red", "blue")


def test_an_import_says_how_to_load_what_it_wrote(tmp_path: Path) -> None:
    torch.save(released(tiny_encoder()), tmp_path / "epoch_10.pt")
    run("clipn-import", tmp_path / "epoch_10.pt", "-o", tmp_path, "--architecture", "tiny")
    run(
        *("clipn-bank", "-o", tmp_path / "no", "--classes", "red,blue", "--device", "cpu"),
        *("--encoder", f"tiny={tmp_path / 'encoder.safetensors'}", "--no-tower", tmp_path / "no_tower.safetensors"),
    )
    assert len(load_bank(tmp_path / "no")) == 2


def test_an_import_that_records_no_architecture_takes_the_activation_from_an_option(tmp_path: Path) -> None:
    torch.save(released(tiny_encoder(), name="my run"), tmp_path / "epoch_10.pt")
    run("clipn-import", tmp_path / "epoch_10.pt", "-o", tmp_path, "--architecture", "tiny", "--gelu")
    assert (tmp_path / "no_tower.safetensors").is_file()
