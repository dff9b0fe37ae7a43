"""`vlm-ood score --server`: banks and labelled images go to the server, and the scores are those of this machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import vlm_ood as vo
from service.app import create_app
from service.settings import Settings
from tests.fakes import FakeEncoder, save_picture
from tests.service.fakes import FakeEngine
from tests.service.running import running
from vlm_ood.cli import build
from vlm_ood.client import Client
from vlm_ood.errors import VlmOodError
from vlm_ood.io.vectors import save_bank, save_features

Both = Callable[..., tuple[Any, Any]]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["score", *map(str, arguments), "--json"])


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    """The results of a command on this machine and on a server."""
    monkeypatch.setattr("vlm_ood.encoders.load_encoder", lambda name, **_: FakeEncoder(name=name))
    settings = Settings(data=tmp_path / "data")

    def run(*arguments: object) -> tuple[Any, Any]:
        here = invoke(*arguments)
        with running(create_app(settings, FakeEngine(["embedded"])), settings) as url:
            there = invoke(*arguments, "--server", url)
        assert (here.exit_code, there.exit_code) == (0, 0), f"{here.exception} {there.exception}"
        return json.loads(here.stdout)["results"], json.loads(there.stdout)["results"]

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for colour in ("red", "blue", "lime"):
        save_picture(tmp_path / "photos" / f"{colour}.png", colour)
    return tmp_path / "photos"


def assert_same(here: Any, there: Any) -> None:
    assert [each["image"] for each in here] == [each["image"] for each in there]
    assert [each["score"] for each in there] == pytest.approx([each["score"] for each in here], abs=1e-5)
    assert [each["classes"][0]["name"] for each in here] == [each["classes"][0]["name"] for each in there]


def test_banks_are_uploaded_and_score_as_here(both: Both, photos: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder(name="embedded")
    save_bank(tmp_path / "classes.safetensors", vo.text_bank(encoder, ["red", "blue"]))
    save_bank(tmp_path / "words.safetensors", vo.text_bank(encoder, ["lime", "white", "black"]))
    banks = ("--bank", tmp_path / "classes.safetensors", "--negatives", tmp_path / "words.safetensors")
    assert_same(*both(photos, *banks, "--method", "neglabel"))


def test_negated_prompts_are_uploaded_and_score_as_here(both: Both, photos: Path, tmp_path: Path) -> None:
    negated = vo.text_bank(FakeEncoder(name="embedded"), ["red", "blue"], templates="no {}")
    save_bank(tmp_path / "no.safetensors", negated)
    assert_same(*both(photos, "--classes", "red,blue", "--no", tmp_path / "no.safetensors", "--method", "clipn"))


@pytest.mark.parametrize("folders", [("red", "blue"), ("n01", "n02")], ids=["by name", "by their order"])
def test_labelled_images_are_uploaded_and_score_as_here(
    both: Both, photos: Path, tmp_path: Path, knn: str, folders: tuple[str, str]
) -> None:
    for folder, colour in zip(folders, ("red", "blue"), strict=True):
        save_picture(tmp_path / "shots" / folder / "0.png", colour)
    save_picture(tmp_path / "shots" / "of no class.png", "lime")
    assert_same(*both(photos, "--classes", "Red,Blue", "--support", tmp_path / "shots", "--method", knn))


def test_classes_of_a_bank_are_those_of_labelled_images(both: Both, photos: Path, tmp_path: Path, knn: str) -> None:
    save_bank(tmp_path / "classes.safetensors", vo.text_bank(FakeEncoder(name="embedded"), ["Red", "Blue"]))
    for colour in ("red", "blue"):
        save_picture(tmp_path / "shots" / colour / "0.png", colour)
    banks = ("--bank", tmp_path / "classes.safetensors", "--support", tmp_path / "shots")
    assert_same(*both(photos, *banks, "--method", knn))


def test_banks_are_told_with_their_ids_and_stored_once(photos: Path, tmp_path: Path, knn: str) -> None:
    for colour in ("red", "blue"):
        save_picture(tmp_path / "shots" / colour / "0.png", colour)
    (tmp_path / "shots" / "red" / "broken.png").write_bytes(b"none")
    settings = Settings(data=tmp_path / "data")
    task = (photos, "--classes", "red,blue", "--support", tmp_path / "shots", "--method", knn)
    with running(create_app(settings, FakeEngine(["embedded"])), settings) as url, Client(url) as client:
        first, again = invoke(*task, "--server", url), invoke(*task, "--server", url)
        (bank,) = client.banks()
    assert (first.exit_code, again.exit_code) == (0, 0), first.exception
    assert f"shots: bank {bank.id} of the server" in first.stderr
    assert "broken.png: " in first.stderr
    assert first.stderr == again.stderr
    assert (bank.label, bank.rows) == ("shots", 2)


def test_labelled_images_that_can_not_be_sent_leave_no_bank_on_the_server(
    photos: Path, tmp_path: Path, knn: str
) -> None:
    save_bank(tmp_path / "classes.safetensors", vo.text_bank(FakeEncoder(name="embedded"), ["red", "blue"]))
    (tmp_path / "shots" / "red").mkdir(parents=True)
    with (tmp_path / "shots" / "red" / "0.png").open("wb") as large:
        large.truncate(64 * 2**20 + 1)
    settings = Settings(data=tmp_path / "data")
    task = (photos, "--bank", tmp_path / "classes.safetensors", "--support", tmp_path / "shots", "--method", knn)
    with running(create_app(settings, FakeEngine(["embedded"])), settings) as url, Client(url) as client:
        ran = invoke(*task, "--server", url)
        assert client.banks() == ()
    assert "none of the 1 files can be read: 67,108,865 bytes" in str(ran.exception)


@pytest.mark.parametrize("given", [("--encoder", "embedded"), ()], ids=["named", "not named"])
def test_the_encoder_that_is_named_is_the_one_that_is_used(
    photos: Path, tmp_path: Path, given: tuple[str, ...]
) -> None:
    save_bank(tmp_path / "words.safetensors", vo.text_bank(FakeEncoder(name="embedded"), ["lime", "white"]))
    task = (photos, "--classes", "red,blue", "--method", "neglabel", "--negatives", tmp_path / "words.safetensors")
    settings = Settings(data=tmp_path / "data", encoders=("other", "embedded"))
    with running(create_app(settings, FakeEngine(["other", "embedded"])), settings) as url, Client(url) as client:
        ran = invoke(*task, *given, "--server", url)
        (bank,) = client.banks()
    assert ran.exit_code == 0, ran.exception
    assert bank.encoder == json.loads(ran.stdout)["encoder"] == ("embedded" if given else "other")


def test_help_says_what_uploads_need_and_that_they_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    said = " ".join(CliRunner().invoke(build(), ["score", "--help"]).stdout.split())
    assert "embedded; with --server the server's default" in said
    assert "a key with the access `manage`; they stay on the server" in said


@pytest.fixture
def unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("httpx.Client", refuse)


@pytest.mark.usefixtures("unsent")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("photos", "--method", "neglabel"), "give --negatives FILE"),
        (
            ("photos", "--method", "mcm", "--support", "photos"),
            "mcm does not read labelled images: leave out --support PATH",
        ),
        (("photos", "--calibration", "c.json"), "a calibration of its own"),
        (("photos", "--method", "neglabel", "--negatives", "none"), "no such file: none"),
        (("photos", "--method", "neglabel", "--negatives", "features"), "'embeddings'"),
        (("photos", "--method", "KNN", "--support", "features"), "give the folder of labelled images"),
        (("photos", "--method", "KNN", "--support", "photos"), "no image in a subfolder that is named like a class"),
        (("photos", "--method", "KNN", "--support", "shots"), "among the 2 class names: lime"),
        ((), "nothing to score: name image files or folders"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knn: str, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_picture(Path("shots/lime/0.png"), "lime")
    save_features(Path("features"), vo.ImageFeatures(torch.eye(2)))
    options = (knn if each == "KNN" else each for each in arguments)
    ran = invoke(*options, "--classes", "red,blue", "--server", "http://127.0.0.1:9")
    assert isinstance(ran.exception, VlmOodError | FileNotFoundError), repr(ran.exception)
    assert said in str(ran.exception)
