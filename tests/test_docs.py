"""What the README and CONTRIBUTING say is true."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import vlm_ood as vo
from tests.conftest import ROOT
from vlm_ood.cli import build
from vlm_ood.detectors import registry
from vlm_ood.encoders import load_encoder

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def no_new_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_classes", dict(registry._discovered))


def test_the_python_of_the_readme_runs() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image's sample photographs are not installed")
    images = [Image.fromarray(array[..., :3]) for array in (data.chelsea(), data.coffee(), data.rocket())]
    names: dict[str, object] = {"images": images}
    exec("\n".join(python_blocks(README)), names)  # noqa: S102
    nearest = names["nearest"]
    assert isinstance(nearest, list)
    assert [best[0][0] for best in nearest] == ["cat", "cup of coffee", "rocket"]


@pytest.mark.usefixtures("no_new_methods")
def test_the_method_of_contributing_is_complete() -> None:
    method, test = python_blocks(CONTRIBUTING)
    names: dict[str, object] = {"torch": torch, "pytest": pytest, "__name__": "second_best"}
    exec(method + "\n\n" + test, names)  # noqa: S102
    names["test_two_images_by_hand"]()  # type: ignore[operator]
    assert registry._classes["second_best"].paper


def test_every_method_is_in_the_table() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert listed == set(vo.detector_names())


def test_every_command_shown_exists() -> None:
    app = build()
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    shown = set(re.findall(r"^ {4}vlm-ood ([\w-]+)", README, re.MULTILINE))
    assert shown
    assert shown <= known


def test_every_link_inside_the_project_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_checks_before_a_commit_are_those_of_ci() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for tool in ("ruff format --check", "ruff check", "mypy", "codespell"):
        assert tool in hooks
        assert tool in makefile


def test_the_public_names_are_there() -> None:
    assert all(hasattr(vo, name) for name in vo.__all__)
    assert load_encoder is vo.load_encoder
    assert Path(vo.__file__).parent.name == "vlm_ood"
