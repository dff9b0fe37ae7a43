"""`vlm-ood score --server`: banks and labelled images go to the server, and the scores are those of this machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import vlm_ood as vo
from service.app import create_app
from service.settings import Settings
from tests.fakes import FakeEncoder, save_picture
from tests.service.fakes import FakeEngine
from tests.service.running import running
from vlm_ood.cli import build
from vlm_ood.io.vectors import save_bank

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


def test_labelled_images_are_uploaded_and_score_as_here(both: Both, photos: Path, tmp_path: Path, knn: str) -> None:
    for name in ("red", "blue"):
        save_picture(tmp_path / "shots" / name / "0.png", name)
    assert_same(*both(photos, "--classes", "red,blue", "--support", tmp_path / "shots", "--method", knn))


def test_a_part_is_checked_before_anything_is_sent(photos: Path, tmp_path: Path) -> None:
    nowhere = ("--server", "http://127.0.0.1:9")
    assert "give --negatives FILE" in str(invoke(photos, "--classes", "a,b", "-m", "neglabel", *nowhere).exception)
    assert "does not read support" in str(invoke(photos, "--classes", "a,b", "--support", photos, *nowhere).exception)
    calibration = ("--calibration", tmp_path / "c.json")
    assert "a calibration of its own" in str(invoke(photos, "--classes", "a,b", *calibration, *nowhere).exception)
