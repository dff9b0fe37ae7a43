"""What the command line made is served by its id, with the scores of the library, on the real engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from typer.testing import CliRunner

from service.app import create_app
from service.settings import Settings
from tests.clipn.tiny import tiny_architecture, tiny_encoder
from tests.fakes import FakeEncoder
from tests.service.banks.files import upload
from tests.service.conftest import Start
from tests.service.fakes import files, png
from vlm_ood import Support, Task, create_detector, text_bank
from vlm_ood.cli import build
from vlm_ood.clipn.files import PROBE, save_no_tower
from vlm_ood.clipn.no_tower import copy_text_tower
from vlm_ood.images import ImageLimits, load_image

ENCODER = "random:tiny"
CLASSES = ["red", "blue"]
COLOURS = ["red", "lime", "black"]
OPTIONS = ("--classes", ",".join(CLASSES), "--encoder", ENCODER, "--device", "cpu")


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    with tiny_architecture():
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TestClient]:
    """A server with the real engine, in this process."""
    settings = Settings(data=tmp_path / "data", encoders=(ENCODER,), device="cpu", workers="inline")
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.png" for colour in COLOURS]
    for path, colour in zip(paths, COLOURS, strict=True):
        path.write_bytes(png(colour))
    return paths


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(build(), list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def scores_here(pictures: list[Path], *options: str | Path) -> list[float]:
    results = json.loads(run("score", *pictures, *OPTIONS, "--json", *options))["results"]
    return [result["score"] for result in results]


def scores_there(server: TestClient, pictures: list[Path], options: dict[str, Any]) -> list[float]:
    detector = server.post("/v1/detectors", json={"classes": CLASSES} | options)
    assert detector.status_code == 201, detector.text
    sent = files(*(path.read_bytes() for path in pictures))
    answer = server.post(f"/v1/detectors/{detector.json()['id']}/score", files=sent)
    return [result["score"] for result in answer.json()["results"]]


def test_a_mined_bank_of_the_command_line_is_served(server: TestClient, pictures: list[Path], tmp_path: Path) -> None:
    bank = tmp_path / "negatives.safetensors"
    (tmp_path / "words.txt").write_text("lime\nyellow\nwhite\nsofa\nlamp\nriver")
    run("mine", *OPTIONS, "--lexicon", tmp_path / "words.txt", "--keep", "0.5", "--out", bank)
    made = upload(server, bank.read_bytes())
    assert (made.status_code, made.json()["rows"]) == (201, 3)
    parameters = {"groups": 1}
    here = scores_here(pictures, "-m", "neglabel", "-p", "groups=1", "--negatives", bank)
    negatives = {"bank": made.json()["id"]}
    options = {"method": "neglabel", "negatives": negatives, "parameters": parameters}
    assert scores_there(server, pictures, options) == pytest.approx(here, rel=1e-5)


def test_a_bank_of_a_clipn_tower_is_served(server: TestClient, pictures: list[Path], tmp_path: Path) -> None:
    encoder = tiny_encoder()
    tower = copy_text_tower(encoder)
    with torch.no_grad():
        tower.prompt_no.normal_(generator=torch.Generator().manual_seed(0))
    save_no_tower(tmp_path / "tower", tower, encoder.encode_text([PROBE])[0])
    bank = tmp_path / "no.safetensors"
    run("clipn-bank", *OPTIONS, "--no-tower", tmp_path / "tower", "--out", bank)
    made = upload(server, bank.read_bytes())
    assert made.status_code == 201, made.text
    here = scores_here(pictures, "-m", "clipn", "--no", bank)
    there = scores_there(server, pictures, {"method": "clipn", "no": {"bank": made.json()["id"]}})
    assert there == pytest.approx(here, rel=1e-5)
    assert len(set(here)) == len(here)


def test_a_class_bank_of_the_library_is_served(server: TestClient, pictures: list[Path]) -> None:
    bank = text_bank(tiny_encoder(), CLASSES, templates="nice")
    made = upload(server, bank)
    here = scores_here(pictures, "--templates", "nice")
    there = scores_there(server, pictures, {"classes": {"bank": made.json()["id"]}})
    assert there == pytest.approx(here, rel=1e-5)


REDS = ["#ff0000", "#ee0000", "#dd0000", "#ff1111", "#ee1111", "#dd1111"]
BLUES = ["#0000ff", "#0000ee", "#0000dd", "#1111ff", "#1111ee", "#1111dd"]


@pytest.mark.usefixtures("knn")
@pytest.mark.parametrize("method", ["knn", "kth_neighbour"])
def test_a_method_that_needs_labelled_images_is_served_and_survives_a_restart(start: Start, method: str) -> None:
    client = start()
    labels = ["red thing"] * 6 + ["blue thing"] * 6
    bank = client.post("/v1/banks", files=files(*map(png, REDS + BLUES)), data={"labels": labels})
    assert bank.json()["images_per_class"] == {"red thing": 6, "blue thing": 6}
    spec = {
        "classes": ["blue thing", "red thing"],
        "method": method,
        "parameters": {"k": 2},
        "support": {"bank": bank.json()["id"]},
    }
    made = client.post("/v1/detectors", json=spec)
    assert made.status_code == 201, made.text
    path = f"/v1/detectors/{made.json()['id']}"
    calibration = files(*map(png, REDS[:5] + BLUES[:5]))
    assert client.put(f"{path}/calibration", files=calibration, data={"keep": "0.8"}).status_code == 200
    asked = files(png("red"), png("lime"), png("#0000fe"))
    before = client.post(f"{path}/score", files=asked).json()
    assert [result["decision"] for result in before["results"]][1] == "out"
    restarted = start()
    assert restarted.get(path).json()["state"] == "cold"
    assert restarted.post(f"{path}/score", files=asked).json() == before
    assert [result["score"] for result in before["results"]] == pytest.approx(library_scores(method), abs=1e-6)


def library_scores(method: str) -> list[float]:
    """What the library says about the same three pictures."""
    encoder = FakeEncoder()
    limits = ImageLimits()
    labels = torch.tensor([1] * 6 + [0] * 6)
    known = encoder.encode_images([load_image(png(colour), limits) for colour in REDS + BLUES])
    task = Task(text_bank(encoder, ["blue thing", "red thing"]), support=Support(known, labels))
    asked = encoder.encode_images([load_image(png(colour), limits) for colour in ("red", "lime", "#0000fe")])
    scores: list[float] = create_detector(method, k=2).fit(task).score(asked).tolist()
    return scores
