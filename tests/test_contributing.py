"""Adding a method is one file and its test: those of CONTRIBUTING, as printed, in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vlm_ood as vo
from tests.conftest import ROOT
from vlm_ood.io.vectors import save_bank, save_features

PRINTED = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
METHOD, TEST = "vlm_ood/detectors/kth_neighbour.py", "tests/detectors/test_kth_neighbour.py"
REST = """
import json
import sys
from pathlib import Path

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine, png
from tests.service.running import running
from vlm_ood.client import Client

engine = FakeEngine()
settings = Settings(data=Path(sys.argv[1]), encoders=engine.encoder_names())
with running(create_app(settings, engine), settings) as url, Client(url) as client:
    support = client.upload_support({"red": [png("red")], "blue": [png("blue")]})
    images = [png("red"), png("lime")]
    answer = client.score(images, classes=["red", "blue"], method="kth_neighbour", support=support)
    Path(sys.argv[1], "scores.json").write_text(json.dumps([result.score for result in answer.results]))
"""
COPIED = ("vlm_ood", "service", "tests", "docs", "prompts", "lexicons", "pyproject.toml", "README.md")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the method of CONTRIBUTING and its test."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for name, content in zip((METHOD, TEST), PRINTED, strict=True):
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def run(copy: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Python in the copy, which shadows the installed package."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_stand_in_of_the_tests_is_the_method_that_is_printed() -> None:
    assert (ROOT / "tests/plugins/kth_neighbour.py").read_text(encoding="utf-8") == PRINTED[0]


@pytest.mark.slow
def test_its_test_and_every_contract_pass(copy: Path) -> None:
    chosen = ("tests/detectors/test_contract.py", TEST, "tests/test_docs.py", "tests/test_layers.py")
    ran = run(copy, "-m", "pytest", "-q", "--no-header", "-k", "kth_neighbour or table or layer", *chosen)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", ran.stdout)[0]) > 20


@pytest.mark.slow
def test_the_command_line_scores_with_it(copy: Path, tmp_path: Path) -> None:
    support = torch.eye(4)
    save_bank(tmp_path / "classes.safetensors", vo.TextBank(("cat", "dog"), support[:2]))
    save_features(tmp_path / "support.safetensors", vo.ImageFeatures(support[:2]), labels=torch.tensor([0, 1]))
    save_features(tmp_path / "images.safetensors", vo.ImageFeatures(support[[0, 3]]))
    ran = run(
        copy, "-m", "vlm_ood", "score", "--features", tmp_path / "images.safetensors", "--bank",
        tmp_path / "classes.safetensors", "--support", tmp_path / "support.safetensors", "--method", "kth_neighbour",
        "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert [result["score"] for result in json.loads(ran.stdout)["results"]] == [-1.0, 0.0]


@pytest.mark.slow
def test_a_server_scores_with_it(copy: Path, tmp_path: Path) -> None:
    ran = run(copy, "-c", REST, tmp_path)
    assert ran.returncode == 0, ran.stderr
    known, unknown = json.loads((tmp_path / "scores.json").read_text())
    assert known == pytest.approx(-1, abs=1e-6)
    assert unknown > -0.9
