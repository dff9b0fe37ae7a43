"""The commands of the README and the commands and claims of docs/api.md and docs/operations.md are true."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vlm_ood as vo
from service.app import create_app
from service.problems import INVALID, PROBLEM_TYPES
from service.security.access import OPEN_PATHS
from service.settings import Settings
from tests.conftest import ROOT
from tests.fakes import FakeEncoder
from tests.service.fakes import FakeEngine, png
from tests.service.running import running
from tests.test_docs import python_blocks
from vlm_ood.client import Client
from vlm_ood.io.vectors import save_bank, save_features

README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_of_the_tour_is_answered(tmp_path: Path) -> None:
    engine = FakeEngine(["embedded"])
    settings = Settings(data=tmp_path / "data")
    (tmp_path / "cat.png").write_bytes(png("red"))
    (tmp_path / "rocket.jpg").write_bytes(png("lime"))
    save_bank(tmp_path / "negatives.safetensors", vo.text_bank(FakeEncoder(), ["sofa", "lamp", "river"]))
    commands = "".join(re.findall(r"```sh\n(.*?)```", API, re.DOTALL)).replace("curl -s ", "curl -sS --fail-with-body ")
    with running(create_app(settings, engine), settings) as url:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env={"SERVER": url, "PATH": "/usr/local/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    assert ran.stdout.count('"results"') == 4
    assert re.search(r'"decision":"(in|out)"', ran.stdout)


def test_the_python_of_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data=tmp_path / "data")
    (tmp_path / "cat.png").write_bytes(png("red"))
    (tmp_path / "rocket.jpg").write_bytes(png("lime"))
    save_bank(tmp_path / "negatives.safetensors", vo.text_bank(FakeEncoder(), ["sofa", "lamp", "river"]))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with running(create_app(settings, FakeEngine(["embedded"])), settings) as url, Client(url) as client:
        monkeypatch.setenv("SERVER", url)
        exec("\n".join(python_blocks(API)), names)  # noqa: S102
        assert client.banks() == ()
    scores = names["scores"]
    assert isinstance(scores, list)
    assert len(scores) == 2
    assert all(isinstance(score, float) for score in scores)


ELSEWHERE = ("vlm-ood serve", "vlm-ood mine", "ViT-B-16/openai")  # runs for ever, for minutes, with a hub


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    shown = re.findall(r"^ {4}((?:vlm-ood|curl) .*)$", README, re.MULTILINE)
    commands = "\n".join(line for line in shown if not any(each in line for each in ELSEWHERE))
    for folder, colours in {"photos": ("red", "lime"), "known": ("red", "blue"), "street": ("lime", "white")}.items():
        (tmp_path / folder).mkdir()
        for colour in colours:
            (tmp_path / folder / f"{colour}.png").write_bytes(png(colour))
    for name, colour in {"cat": "red", "dog": "blue"}.items():
        (tmp_path / "labelled" / name).mkdir(parents=True)
        (tmp_path / "labelled" / name / "a.png").write_bytes(png(colour))
    (tmp_path / "cat.png").write_bytes(png("red"))
    (tmp_path / "rocket.jpg").write_bytes(png("lime"))
    vectors = torch.eye(4)
    save_features(tmp_path / "features.safetensors", vo.ImageFeatures(vectors))
    save_bank(tmp_path / "classes.safetensors", vo.TextBank(("cat", "dog"), vectors[:2]))
    settings = Settings(data=tmp_path / "data")
    with running(create_app(settings, FakeEngine(["embedded"])), settings) as url:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-xc", re.sub(r"(http://)?localhost:8000", url, commands)],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "VLM_OOD_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    assert len(commands.splitlines()) == 8
    assert "Warning" not in ran.stderr
    assert '"results"' in ran.stdout
    assert (tmp_path / "out" / "index.html").is_file()


IN_WORDS = {
    "data": "the user's data folder",
    "database_url": "SQLite in the data folder",
    "decode_processes": "one per CPU core",
}
UNITS = {"": 1, " MiB": 2**20, " GiB": 2**30, " million": 10**6}


def documented_defaults() -> dict[str, str]:
    """The default of each setting as the table of docs/operations.md has it."""
    found: dict[str, str] = {}
    for names, default in re.findall(r"^\| (`VLM_OOD_[^|]*) \| ([^|]*) \|", OPERATIONS, re.MULTILINE):
        settings = re.findall(r"`VLM_OOD_(\w+)`", names)
        each = default.split(", ") if default.count(", ") == len(settings) - 1 else [default] * len(settings)
        found.update(zip(map(str.lower, settings), each, strict=True))
    return found


def value_of(text: str) -> object:
    """A default as the program has it: a number, or texts."""
    number = re.fullmatch(r"([\d ]+?)( MiB| GiB| million)?", text)
    return float(number[1].replace(" ", "")) * UNITS[number[2] or ""] if number else text.strip("`")


def test_every_setting_is_listed_with_its_default(tmp_path: Path) -> None:
    shown = documented_defaults()
    assert set(shown) == set(Settings.model_fields)
    settings = Settings(data=tmp_path)
    for name, text in shown.items():
        value = getattr(settings, name)
        if name in IN_WORDS:
            assert text == IN_WORDS[name]
        elif value in ((), ""):
            assert text == "none" or text.endswith("else any"), name
        else:
            plain = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            expected = str(plain).lower() if isinstance(plain, bool) else plain
            assert value_of(text) == (value_of(expected) if isinstance(expected, str) else expected), name


def test_every_problem_is_listed() -> None:
    for problem in (*PROBLEM_TYPES.values(), INVALID):
        assert f"`{problem.slug}`" in API, problem
        assert str(problem.status) in API


def test_every_open_path_is_named() -> None:
    for path in OPEN_PATHS - {"/docs/style.css"}:
        assert f"`{path}`" in API, path
