import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import UInt8
from torch import Tensor
from typer.testing import CliRunner, Result

from tests.fakes import FakeEncoder, save_picture
from vlm_ood.cli import build, evaluating
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import CapabilityError, ClassNamesError, InputError, TaskError, UnknownNameError
from vlm_ood.io.files import write_tensors
from vlm_ood.io.vectors import save_bank, save_features
from vlm_ood.types import ImageFeatures, TextBank


class CountingEncoder(FakeEncoder):
    """Counts the pictures that go through the network, and how many came out with patches."""

    encoded = 0
    with_patches = 0

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        self.encoded += len(pixels)
        self.with_patches += outputs.patches * len(pixels)
        return super().encode_pixels(pixels, outputs)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CountingEncoder:
    made = CountingEncoder()
    monkeypatch.setattr(evaluating, "open_encoder", lambda *_: made)
    monkeypatch.setenv("VLM_OOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two ID classes, two OOD colours, one broken file."""
    for name in ("id/red/a.png", "id/red/b.png", "id/blue/c.png"):
        save_picture(tmp_path / name, name.split("/")[1])
    save_picture(tmp_path / "ood" / "deep" / "d.png", "lime")
    save_picture(tmp_path / "ood" / "e.png", "yellow")
    (tmp_path / "ood" / "broken.png").write_bytes(b"\x89PNG")
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), ["evaluate", *map(str, arguments)])


def run_json(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def test_the_table_names_sets_methods_accuracy_and_broken_images(data: Path, encoder: CountingEncoder) -> None:
    result = run("--id", data / "id", "--ood", f"colours={data / 'ood'}", "-m", "mcm", "-m", "mcm:temperature=0.5")

    assert result.exit_code == 0, result.output
    assert "colours 2 images (+1 broken)" in result.stdout
    assert "mcm:temperature=0.5" in result.stdout
    assert "ID accuracy 100.0 %" in result.stdout
    assert "broken.png: " in result.stderr


def test_several_methods_share_one_encoding_pass(data: Path, encoder: CountingEncoder) -> None:
    run_json("--id", data / "id", "--ood", data / "ood", "-m", "mcm", "-m", "energy", "-m", "gl_mcm")

    assert encoder.encoded == encoder.with_patches == 5


def test_patches_are_encoded_only_when_a_method_needs_them(data: Path, encoder: CountingEncoder) -> None:
    run_json("--id", data / "id", "--ood", data / "ood", "-m", "mcm")

    assert (encoder.encoded, encoder.with_patches) == (5, 0)


def test_the_second_run_encodes_nothing(data: Path, encoder: CountingEncoder) -> None:
    first = run_json("--id", data / "id", "--ood", data / "ood", "-m", "mcm")

    assert run_json("--id", data / "id", "--ood", data / "ood", "-m", "mcm") == first
    assert encoder.encoded == 5
    run_json("--id", data / "id", "--ood", data / "ood", "-m", "mcm", "--no-cache")
    assert encoder.encoded == 10


def test_json_says_everything(data: Path, encoder: CountingEncoder) -> None:
    said = run_json("--id", data / "id", "--ood", f"x={data / 'ood'}", "-m", "mcm", "--bootstrap", "20")

    assert said["facts"]["encoder"] == "fake"
    assert said["classes"] == ["blue", "red"]
    assert said["accuracy"] == 1.0
    assert said["ood"][0]["images"] == 2
    assert list(said["ood"][0]["errors"]) == ["broken.png"]
    (comparison,) = said["comparisons"]
    interval = comparison["intervals"]["auroc"]
    assert interval["low"] <= interval["value"] == comparison["auroc"] <= interval["high"]


def test_csv_has_the_same_figures(data: Path, encoder: CountingEncoder) -> None:
    arguments = "--id", data / "id", "--ood", data / "ood", "-m", "mcm", "-m", "energy"

    lines = list(csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout)))

    said = run_json(*arguments)
    assert [float(line["auroc"]) for line in lines] == [each["auroc"] for each in said["comparisons"] + said["means"]]


def test_without_methods_all_that_can_run_do_and_the_others_are_named(data: Path, encoder: CountingEncoder) -> None:
    said = run_json("--id", data / "id", "--ood", data / "ood")

    assert {"mcm", "gl_mcm", "energy"} <= {each["method"] for each in said["comparisons"]}
    assert said["skipped"]["neglabel"] == "needs negatives"
    assert said["skipped"]["clipn"] == "needs negated prompts"


def test_negatives_make_methods_run(data: Path, encoder: CountingEncoder) -> None:
    save_bank(data / "n.safetensors", TextBank(("lime", "yellow"), encoder.encode_text(["lime", "yellow"])))
    arguments = "--id", data / "id", "--ood", data / "ood", "-m", "neglabel:groups=1"

    assert run_json(*arguments, "--negatives", data / "n.safetensors")["comparisons"][0]["auroc"] == 1.0
    assert isinstance(run(*arguments).exception, TaskError)


def test_openood_lists_and_a_data_root(data: Path, encoder: CountingEncoder) -> None:
    (data / "lists").mkdir()
    (data / "lists" / "id.txt").write_text("id/red/a.png 1\nid/blue/c.png 0\nid/red/gone.png 1\n")
    (data / "lists" / "far.txt").write_text("ood/e.png -1\nood/deep/d.png\n")
    (data / "names.txt").write_text("blue\nred\n")

    said = run_json(
        "--id",
        data / "lists" / "id.txt",
        "--ood",
        data / "lists" / "far.txt",
        "--data-root",
        data,
        "--classes",
        f"@{data / 'names.txt'}",
        "-m",
        "mcm",
    )

    assert (said["accuracy"], said["ood"][0]["name"], said["ood"][0]["images"]) == (1.0, "far", 2)
    assert list(said["id"]["errors"]) == ["id/red/gone.png"]


def test_the_report_lies_in_one_folder_with_every_score(data: Path, encoder: CountingEncoder) -> None:
    result = run("--id", data / "id", "--ood", data / "ood", "-m", "mcm", "--report", data / "report")

    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in (data / "report").iterdir()) == [
        "index.html",
        "results.csv",
        "results.json",
        "scores.csv",
    ]
    assert (data / "report" / "index.html").read_text().count("data:image/jpeg") == 5
    scores = io.StringIO((data / "report" / "scores.csv").read_text())
    assert len(list(csv.reader(scores))) == 1 + 5 + 1
    assert json.loads((data / "report" / "results.json").read_text())["accuracy"] == 1.0


def test_vectors_alone_are_enough(tmp_path: Path, encoder: CountingEncoder) -> None:
    save_bank(tmp_path / "bank.safetensors", TextBank(("a", "b"), torch.eye(2)))
    rows = torch.tensor([[1.0, 0.1], [0.1, 1.0], [float("nan"), 0.0]])
    _save_rows(tmp_path / "id.safetensors", rows, torch.tensor([0, 0, 1]))
    save_features(tmp_path / "far.safetensors", ImageFeatures(-torch.eye(2)))

    said = run_json(
        "--features",
        tmp_path / "id.safetensors",
        "--ood-features",
        f"far={tmp_path / 'far.safetensors'}",
        "--bank",
        tmp_path / "bank.safetensors",
    )

    assert said["accuracy"] == 0.5
    assert said["facts"]["encoder"] == "vectors"
    assert list(said["id"]["errors"]) == ["row 2"]
    assert said["skipped"]["gl_mcm"] == "needs patches"
    assert encoder.encoded == 0


def test_support_features_need_labels(tmp_path: Path, encoder: CountingEncoder, knn: str) -> None:
    save_bank(tmp_path / "bank.safetensors", TextBank(("a", "b"), torch.eye(2)))
    save_features(tmp_path / "f.safetensors", ImageFeatures(torch.eye(2)))
    save_features(tmp_path / "shots.safetensors", ImageFeatures(torch.eye(2)), labels=torch.tensor([0, 1]))
    arguments = (
        "--features", tmp_path / "f.safetensors", "--ood-features", f"far={tmp_path / 'f.safetensors'}",
        "--bank", tmp_path / "bank.safetensors", "-m", knn, "--support",
    )  # fmt: skip

    assert run_json(*arguments, tmp_path / "shots.safetensors")["comparisons"][0]["auroc"] == 0.5
    assert "'labels'" in str(run(*arguments, tmp_path / "f.safetensors").exception)


def _save_rows(path: Path, rows: Tensor, labels: Tensor) -> None:
    write_tensors(path, {"features": rows, "labels": labels})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], InputError, "nothing to evaluate"),
        (["--id", "id"], InputError, "nothing to evaluate"),
        (["--id", "id", "--ood", "nowhere"], InputError, "nowhere is neither"),
        (["--id", "ood/deep", "--ood", "ood"], ClassNamesError, "no subfolders"),
        (["--id", "id", "--ood", "ood", "-m", "mcmm"], UnknownNameError, "did you mean 'mcm'"),
        (["--id", "id", "--ood", "ood", "--features", "f"], InputError, "not both"),
        (["--features", "f"], InputError, "--ood-features"),
        (["--id", "id", "--ood", "ood", "--ood", "deep/../ood"], InputError, "same name"),
    ],
)
def test_what_a_user_can_mend_is_said(
    arguments: list[str],
    error: type[Exception],
    message: str,
    data: Path,
    encoder: CountingEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data)
    (data / "deep").mkdir()

    result = run(*arguments)

    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_a_named_method_without_its_patches_is_an_error_before_encoding(
    data: Path, encoder: CountingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingEncoder, "capabilities", frozenset())

    result = run("--id", data / "id", "--ood", data / "ood", "-m", "gl_mcm")

    assert isinstance(result.exception, CapabilityError)
    assert encoder.encoded == 0
