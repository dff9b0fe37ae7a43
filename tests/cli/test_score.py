"""`vlm-ood score` and `vlm-ood calibrate`, as a user types them."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import vlm_ood as vo
from tests.fakes import FakeEncoder, save_picture
from vlm_ood.cli import main
from vlm_ood.io.vectors import save_bank, save_features


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`vlm-ood`, in this process, with the fake encoder under every name."""
    monkeypatch.setattr("vlm_ood.encoders.load_encoder", lambda name, **_: FakeEncoder(name=name))
    monkeypatch.setenv("COLUMNS", "200")

    def vlm_ood(*arguments: object) -> Ran:
        monkeypatch.setattr("sys.argv", ["vlm-ood", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return vlm_ood


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for colour in ("red", "blue", "lime"):
        save_picture(tmp_path / "photos" / f"{colour}.png", colour)
    return tmp_path / "photos"


def test_a_folder_is_scored_and_broken_files_are_reported(run: Run, photos: Path) -> None:
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.png").write_text("not an image")
    ran = run("score", photos, "--classes", "red,blue", "--json")
    assert ran.status == 1
    results = {Path(result["image"]).name: result for result in ran.json["results"]}
    assert sorted(results) == ["blue.png", "empty.jpg", "lime.png", "red.png", "text.png"]
    assert "empty file" in results["empty.jpg"]["error"]
    assert "not an image" in results["text.png"]["error"]
    assert results["red.png"]["classes"][0]["name"] == "red"
    assert results["red.png"]["decision"] is None
    assert "no calibration" in results["red.png"]["reason"]


def test_a_calibrated_detector_decides(run: Run, photos: Path, tmp_path: Path) -> None:
    for number in range(20):
        save_picture(tmp_path / "known" / f"{number}.png", "red" if number % 2 else "blue")
    file = tmp_path / "calibration.json"
    made = run("calibrate", tmp_path / "known", "-c", "red,blue", "--keep", 0.9, "--out", file, "--json")
    assert made.status == 0
    assert made.json["images"] == 20
    scored = run("score", photos, "-c", "red,blue", "--calibration", file, "--json")
    decisions = {Path(result["image"]).stem: result["decision"] for result in scored.json["results"]}
    assert decisions["lime"] == "out"
    other = run("score", photos, "-c", "red,lime", "--calibration", file)
    assert other.status == 2
    assert "calibrate again" in other.err


def test_too_few_images_for_the_guarantee_are_warned_about(run: Run, photos: Path, tmp_path: Path) -> None:
    few = run("calibrate", photos, "-c", "red,blue", "--out", tmp_path / "few.json", "--json")
    assert (few.status, few.json["rule"]) == (0, "empirical")
    assert "warning: 3 ID images are too few" in few.err
    assert "needs 19 images" in few.err
    enough = run("calibrate", photos, "-c", "red,blue", "--out", tmp_path / "few.json", "--keep", 0.7, "--json")
    assert enough.json["rule"] == "conformal"
    assert "warning" not in enough.err
    assert run("calibrate", photos, "-c", "red,blue", "--out", tmp_path / "no.json", "--rule", "best").status == 2
    assert not (tmp_path / "no.json").exists()


def test_csv_has_a_line_an_image(run: Run, photos: Path) -> None:
    ran = run("score", photos, "-c", "red,blue", "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [Path(row["image"]).stem for row in rows] == ["blue", "lime", "red"]
    assert all(float(row["score"]) for row in rows)


def test_costs_give_every_image_an_action(run: Run, photos: Path, tmp_path: Path) -> None:
    calibrated = run("calibrate", photos, "-c", "red,blue", "--out", tmp_path / "c.json", "--keep", "0.5")
    assert calibrated.status == 0
    given = ("score", photos, "-c", "red,blue", "--calibration", tmp_path / "c.json")

    lenient, strict = (run(*given, "--costs", costs, "--csv") for costs in ("wrong=0,accepted=0", "accepted=1000"))

    actions = [[row["action"] for row in csv.DictReader(io.StringIO(ran.out))] for ran in (lenient, strict)]
    assert actions == [["accept"] * 3, ["reject"] * 3]
    shown = run(*given, "--costs", "wrong=0,accepted=0", "--report", tmp_path / "report")
    assert "action" in shown.out
    assert "not above the cost of turning it away" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_costs_without_a_calibration_are_refused_before_anything_is_loaded(run: Run, photos: Path) -> None:
    ran = run("score", photos, "-c", "red,blue", "--costs", "wrong=1")

    assert ran.status == 2
    assert "--costs needs --calibration FILE" in ran.err


def test_the_table_and_the_report_name_every_image(run: Run, photos: Path, tmp_path: Path) -> None:
    ran = run("score", photos, "-c", "red,blue", "--report", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    for name in ("red.png", "blue.png", "lime.png"):
        assert name in ran.out
        assert name in page


def test_vectors_are_scored_without_an_encoder(run: Run, tmp_path: Path) -> None:
    vectors = torch.eye(3)
    save_features(tmp_path / "f.safetensors", vo.ImageFeatures(vectors), ["a", "b", "c"])
    save_bank(tmp_path / "b.safetensors", vo.TextBank(("x", "y"), vectors[:2]))
    ran = run("score", "--features", tmp_path / "f.safetensors", "--bank", tmp_path / "b.safetensors", "--json")
    assert ran.status == 0
    assert [result["image"] for result in ran.json["results"]] == ["a", "b", "c"]
    assert ran.json["results"][2]["score"] > ran.json["results"][0]["score"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["red.png"], "no class names"),
        (["red.png", "-c", "red,,blue"], "class name 2 of 3 is empty"),
        (["red.png", "-c", "red,red"], "given twice: 'red'"),
        (["red.png", "-c", "red", "-m", "mcm"], "at least 2 classes"),
        (["red.png", "-c", "@none.txt"], "can't be read from none.txt"),
        (["-c", "red,blue"], "nothing to score"),
        (["red.png", "-c", "red,blue", "-m", "mcmm"], "did you mean 'mcm'"),
        (["red.png", "-c", "red,blue", "-p", "temperature=-1"], "temperature=-1"),
        (["red.png", "-c", "red,blue", "-p", "temperature"], "must be NAME=VALUE"),
        (["red.png", "-c", "red,blue", "-p", "name=mcm"], "name='mcm': Unexpected keyword argument"),
        (["red.png", "-c", "red,blue", "-t", "no placeholder"], "unknown template set"),
        (["red.png", "-c", "red,blue", "-m", "neglabel"], "needs negatives"),
        (["red.png", "-c", "red,blue", "--dtype", "fp8"], "unknown dtype 'fp8'"),
        (["--features", "none.safetensors", "--bank", "none.safetensors"], "no such file"),
    ],
)
def test_a_mistake_is_one_clear_line(run: Run, photos: Path, arguments: list[str], message: str) -> None:
    ran = run("score", *[photos / a if a == "red.png" else a for a in arguments])
    assert ran.status == 2
    assert message in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_one_class_is_enough_for_max_cosine(run: Run, photos: Path) -> None:
    assert run("score", photos, "-c", "red", "-m", "max_cosine", "--json").status == 0


def test_a_class_name_longer_than_the_context_is_scored(run: Run, photos: Path) -> None:
    assert run("score", photos, "-c", f"red,{'very ' * 500}blue", "--json").status == 0


def test_methods_and_encoders_are_listed(run: Run) -> None:
    methods = run("detectors", "--json")
    assert {entry["name"] for entry in methods.json} == set(vo.detector_names())
    assert all(entry["summary"] and entry["paper"] for entry in methods.json)
    assert "mcm" in run("detectors").out
    assert "embedded" in run("encoders", "--json").json
    assert "ViT-B-16/openai" in run("encoders", "--find", "b-16/openai").out


def test_labelled_images_come_from_a_folder_or_a_file(run: Run, photos: Path, tmp_path: Path, knn: str) -> None:
    shots = tmp_path / "shots"
    for name, colours in {"red": ("#ff0000", "#ee1111"), "blue": ("#0000ff",)}.items():
        for row, colour in enumerate(colours):
            save_picture(shots / name / f"{row}.png", colour)
    (shots / "red" / "broken.png").write_bytes(b"none")
    (shots / "of no class.png").write_bytes(b"none")
    asked = (photos, "--classes", "red,blue", "--method", knn, "--json", "--support")
    from_folder = run("score", *asked, shots)
    assert from_folder.status == 0, from_folder.err
    assert "left out red/broken.png" in from_folder.err
    assert "of no class.png" not in from_folder.err  # it is not encoded
    encoder = FakeEncoder(name="embedded")
    pictures = [Image.open(shots / name) for name in ("red/0.png", "red/1.png", "blue/0.png")]
    save_features(tmp_path / "s.safetensors", encoder.encode_images(pictures), labels=torch.tensor([0, 0, 1]))
    from_file = run("score", *asked, tmp_path / "s.safetensors")
    assert from_file.json["results"] == from_folder.json["results"]
    scores = {Path(result["image"]).stem: result["score"] for result in from_file.json["results"]}
    assert scores["red"] < scores["lime"]
    assert scores["blue"] < scores["lime"]


def test_a_calibration_with_labelled_images_fits_the_score_with_them(
    run: Run, photos: Path, tmp_path: Path, knn: str
) -> None:
    save_picture(tmp_path / "shots" / "red" / "0.png", "red")
    save_picture(tmp_path / "shots" / "blue" / "0.png", "blue")
    task = ("--classes", "red,blue", "--method", knn, "--support", tmp_path / "shots")
    out = tmp_path / "c.json"
    assert run("calibrate", tmp_path / "shots", *task, "--keep", "0.9", "--out", out).status == 0
    scored = run("score", photos, *task, "--calibration", out, "--json").json["results"]
    assert {Path(each["image"]).stem: each["decision"] for each in scored} == {"red": "in", "blue": "in", "lime": "out"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "neglabel"), "neglabel needs negatives: give --negatives FILE (from vlm-ood mine)"),
        (("--method", "clipn"), "clipn needs negated prompts: give --no FILE (from vlm-ood clipn-bank)"),
        (("--method", "mcm", "--support", "."), "mcm does not read labelled images: leave out --support PATH"),
        (("--calibration", "nowhere.json"), "no such file: nowhere.json"),
        (("--negatives", "nowhere.safetensors"), "no such file: nowhere.safetensors"),
        (("--bank", "nowhere.safetensors"), "give --classes or --bank, not both"),
    ],
)
def test_a_part_is_checked_before_any_network_is_loaded(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    def load(*_: object, **__: object) -> FakeEncoder:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr("vlm_ood.encoders.load_encoder", load)
    ran = run("score", photos, "--classes", "red,blue", *arguments)
    assert ran.status == 2
    assert said in ran.err


def test_a_bank_of_another_encoder_is_refused_where_it_names_its_own(run: Run, photos: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder(name="this")
    bank = vo.TextBank(("red", "blue"), encoder.encode_text(["red", "blue"]))
    file = tmp_path / "bank.safetensors"
    save_bank(file, bank, encoder.name)
    assert run("score", photos, "--bank", file, "-e", "this", "--json").status == 0
    refused = run("score", photos, "--bank", file, "-e", "other")
    assert refused.status != 0
    assert "vectors of the encoder this, not of other: give --encoder this" in " ".join(refused.err.split())
    save_bank(file, bank)  # of an earlier version, or made elsewhere: it names none
    assert run("score", photos, "--bank", file, "-e", "other", "--json").status == 0
