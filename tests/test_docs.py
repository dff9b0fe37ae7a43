"""What the README and CONTRIBUTING say is true."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

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


def shown_commands(program: str) -> list[list[str]]:
    """The arguments of every call of a program in the README and the docs; continued lines are joined."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8").replace("\\\n", " ") for page in pages)
    calls = re.findall(rf"(?:^ {{4}}|^|`|--no-python |\w=\S+ ){program}(\w[^`\n]*)", text, re.MULTILINE)
    return [re.split(r"\s+#", call)[0].split() for call in calls]


def test_every_command_shown_exists_with_its_options() -> None:
    shown = shown_commands("vlm-ood ")
    assert len(shown) > 30
    for words in shown:
        command: Any = get_command(build())
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, words
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known, words


def test_every_benchmark_shown_exists_with_its_options() -> None:
    shown = shown_commands("python -m benchmarks.")
    assert len(shown) > 10
    for name, *words in shown:
        module = ROOT / "benchmarks" / name
        source = (module / "__main__.py" if module.is_dir() else module.with_suffix(".py")).read_text(encoding="utf-8")
        for word in words:
            if word.startswith("--"):
                assert f'"{word}"' in source or f"    {word[2:].replace('-', '_')}: " in source, (name, word)


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
    """Those that the documentation calls, which programs outside this repository call too."""
    pages = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    shown = {name for page in pages for name in re.findall(r"\bvo\.([A-Za-z_]+)", page.read_text(encoding="utf-8"))}
    always = {
        *("load_encoder", "text_bank", "mine_negatives", "select_negatives", "create_detector", "detector_names"),
        *("calibrate", "metrics", "TextBank", "ImageFeatures", "Support", "Task"),
    }
    assert shown | always <= set(vo.__all__)
    assert all(hasattr(vo, name) for name in vo.__all__)
    assert load_encoder is vo.load_encoder
    assert Path(vo.__file__).parent.name == "vlm_ood"
