"""What the README and CONTRIBUTING say is true."""

import re
from pathlib import Path

import pytest
from PIL import Image

import vlm_ood as vo
from docs.method_table import BEGIN, END, table
from tests.conftest import ROOT
from vlm_ood.cli import build
from vlm_ood.encoders import load_encoder

README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.filterwarnings("ignore::vlm_ood.errors.CalibrationWarning")  # three images, as the README says itself
def test_the_python_of_the_readme_runs() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image's sample photographs are not installed")
    images = [Image.fromarray(array[..., :3]) for array in (data.chelsea(), data.coffee(), data.rocket())]
    names: dict[str, object] = {"images": images}
    exec("\n".join(python_blocks(README)), names)  # noqa: S102
    nearest = names["nearest"]
    assert isinstance(nearest, list)
    assert [best[0][0] for best in nearest] == ["cat", "cup of coffee", "rocket"]


def test_the_method_table_says_what_the_classes_say() -> None:
    """A row is never wrong; a new method has none until `make docs` is run."""
    rows = re.findall(r"^\| `(\w+)` \|.*$", README, re.MULTILINE)
    assert rows
    assert README.split(BEGIN)[1].split(END)[0] == table(rows)


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
