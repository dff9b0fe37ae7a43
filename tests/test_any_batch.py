"""One answer for any batch: what is said of an image does not depend on its neighbours, nor on who asks.

Each way of asking (library, command line, REST as a form or JSON, a stored detector) is compared with a softmax over
classes that is computed here, at the encoder's own scale.
"""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlm_ood as vo
from tests.fakes import FakeEncoder, save_picture
from tests.service.conftest import Start, client, engine, start
from tests.service.fakes import FakeEngine
from vlm_ood.calibration import Calibration
from vlm_ood.cli import main
from vlm_ood.images import load_image
from vlm_ood.results import judge

CLASSES = ["red", "blue", "white", "green", "a sofa"]
COLOURS = ["red", "navy", "lime", "grey", "yellow"]
KNOWN = ["red", "blue", "white", "maroon", "navy", "silver"]
METHOD = "mcm"
TOP = 3

__all__ = ["client", "engine", "start"]


class Warm(FakeEncoder):
    """Its scale is far from CLIP's 100: probabilities at 100 are others."""

    scale = 7.0


Answers = list[dict[str, Any]]
Ask = Callable[[Sequence[Path]], Answers]


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """One file per colour."""
    names = dict.fromkeys([*COLOURS, *KNOWN])
    return {colour: save_picture(tmp_path / "pictures" / f"{colour}.png", colour) for colour in names}


@pytest.fixture
def calibration(pictures: dict[str, Path]) -> Calibration:
    encoder = Warm(name="fake")
    fitted = vo.create_detector(METHOD).fit(vo.Task(classes=vo.text_bank(encoder, CLASSES)))
    known = encoder.encode_images([load_image(pictures[colour].read_bytes()) for colour in KNOWN])
    return vo.calibrate(fitted.score(known), keep=0.7, digest=fitted.digest)


def library(calibration: Calibration) -> Ask:
    def ask(files: Sequence[Path]) -> Answers:
        encoder = Warm(name="fake")
        fitted = vo.create_detector(METHOD).fit(vo.Task(classes=vo.text_bank(encoder, CLASSES)))
        images = encoder.encode_images([load_image(file.read_bytes()) for file in files])
        names = [file.name for file in files]
        judged = judge(fitted, names, images, calibration=calibration, top=TOP, scale=encoder.scale)
        return [
            {"score": each.score, "decision": each.decision, "classes": [vars(near) for near in each.classes]}
            for each in judged
        ]

    return ask


def command_line(
    calibration: Calibration, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ask:
    monkeypatch.setattr("vlm_ood.encoders.load_encoder", lambda name, **_: Warm(name="fake"))
    calibration.save(folder / "calibration.json")

    def ask(files: Sequence[Path]) -> Answers:
        options = [
            "--classes",
            ",".join(CLASSES),
            "--method",
            METHOD,
            "--top",
            TOP,
            "--calibration",
            folder / "calibration.json",
            "--json",
        ]
        monkeypatch.setattr("sys.argv", ["vlm-ood", "score", *map(str, files), *map(str, options)])
        with pytest.raises(SystemExit):
            main()
        ran = capsys.readouterr()
        assert ran.out, ran.err
        by_name = {Path(each["image"]).name: each for each in json.loads(ran.out)["results"]}
        return [by_name[file.name] for file in files]

    return ask


def rest(start: Start, engine: FakeEngine, kind: str, *, stored: bool, known: Sequence[Path]) -> Ask:
    engine.encoders["fake"] = Warm(name="fake")
    server = start()
    body: dict[str, Any] = {"classes": CLASSES, "method": METHOD}
    made = server.post("/v1/detectors", json=body).json()["id"]
    files = [("images", file.read_bytes()) for file in known]
    threshold = server.put(f"/v1/detectors/{made}/calibration", files=files, data={"keep": "0.7"}).json()["threshold"]
    path = f"/v1/detectors/{made}/score" if stored else "/v1/score"
    fields: dict[str, Any] = {"top": TOP} | ({} if stored else body | {"threshold": threshold})

    def ask(files: Sequence[Path]) -> Answers:
        if kind == "form":
            answer = server.post(path, files=[("images", file.read_bytes()) for file in files], data=fields)
        else:
            images = [{"content": base64.b64encode(file.read_bytes()).decode()} for file in files]
            answer = server.post(path, json={"images": images, **fields})
        assert answer.status_code == 200, answer.text
        found: Answers = answer.json()["results"]
        return found

    return ask


WAYS = ["library", "command line", "form", "json", "stored form", "stored json"]


@pytest.fixture(params=WAYS)
def ask(
    request: pytest.FixtureRequest,
    calibration: Calibration,
    pictures: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    """One way to ask about files."""
    way: str = request.param
    if way == "library":
        return library(calibration)
    if way == "command line":
        return command_line(calibration, tmp_path, monkeypatch, capsys)
    return rest(
        request.getfixturevalue("start"),
        request.getfixturevalue("engine"),
        way.split()[-1],
        stored=way.startswith("stored"),
        known=[pictures[colour] for colour in KNOWN],
    )


def by_hand(file: Path) -> list[tuple[str, float]]:
    """The `TOP` classes and their probabilities: softmax over classes of the encoder's scale times the cosines."""
    encoder = Warm(name="fake")
    image = encoder.encode_images([load_image(file.read_bytes())]).pooled[0].double().numpy()
    texts = vo.text_bank(encoder, CLASSES).embeddings.double().numpy()
    cosines = texts @ image / np.linalg.norm(texts, axis=1) / np.linalg.norm(image)
    powers = np.exp(encoder.scale * cosines)
    probabilities = powers / powers.sum()
    order = np.argsort(-probabilities)[:TOP]
    return [(CLASSES[row], float(probabilities[row])) for row in order]


def test_names_and_probabilities_are_a_softmax_over_classes(ask: Ask, pictures: dict[str, Path]) -> None:
    files = [pictures[colour] for colour in COLOURS]
    for file, answer in zip(files, ask(files), strict=True):
        expected = by_hand(file)
        assert [near["name"] for near in answer["classes"]] == [name for name, _ in expected]
        found = [near["probability"] for near in answer["classes"]]
        assert found == pytest.approx([probability for _, probability in expected], abs=1e-5)


def test_neighbours_change_nothing(ask: Ask, pictures: dict[str, Path]) -> None:
    alone = {colour: ask([pictures[colour]])[0] for colour in COLOURS}
    for neighbours in (COLOURS, COLOURS[::-1], [COLOURS[2], COLOURS[0]]):
        for colour, answer in zip(neighbours, ask([pictures[each] for each in neighbours]), strict=True):
            assert answer["decision"] == alone[colour]["decision"]
            assert answer["score"] == pytest.approx(alone[colour]["score"], abs=1e-5)
            assert [near["name"] for near in answer["classes"]] == [near["name"] for near in alone[colour]["classes"]]
            found, expected = ([near["probability"] for near in each["classes"]] for each in (answer, alone[colour]))
            assert found == pytest.approx(expected, abs=1e-5)


def test_decisions_are_those_of_the_threshold(ask: Ask, pictures: dict[str, Path], calibration: Calibration) -> None:
    answers = ask([pictures[colour] for colour in COLOURS])
    decisions = [
        "out" if answer["score"] > calibration.threshold + calibration.tolerance else "in" for answer in answers
    ]
    assert [answer["decision"] for answer in answers] == decisions
    assert {"in", "out"} == set(decisions), "the pictures must tell a wrong threshold from the right one"
