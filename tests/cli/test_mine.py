"""`vlm-ood mine` on real words and the real text tower."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_ood.cli import build
from vlm_ood.errors import LexiconError, ParameterError, UnknownNameError
from vlm_ood.io.vectors import load_bank

WORDS = "\n".join(["abacus", "anchor", "violin", "river", "mountain", "cats", "hotel", "lamp", "pencil", "cloud"])


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(WORDS)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(build(), ["mine", *map(str, arguments)], catch_exceptions=True)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.slow
def test_writes_a_bank_and_says_what_is_in_it(words: Path, tmp_path: Path) -> None:
    out = tmp_path / "negatives.safetensors"
    arguments = ["--classes", "cat,dog", "--lexicon", words, "--keep", "0.5", "--out", out]

    summary = json.loads(run(*arguments, "--json"))

    bank = load_bank(out)
    assert (summary["negatives"], summary["candidates"], summary["named"]) == (4, 9, ["cats"])
    assert len(bank) == 4
    assert set(bank.names) < set(WORDS.split())
    assert bank.dim == 384
    table = run(*arguments)
    assert "noun.custom" in table
    assert bank.names[0] in table


@pytest.mark.slow
def test_options_of_the_authors_code_reach_the_mining(words: Path, tmp_path: Path) -> None:
    classes_out = tmp_path / "classes.safetensors"
    said = run(
        "-c", "cat,dog", "--lexicon", words, "--out", tmp_path / "n.safetensors", "--keep", 0.5, "--recipe", "csp",
        "--draw", "in_turn", "--overlap", "adj", "--class-neighbours", 1, "--classes-out", classes_out, "--json",
    )  # fmt: skip
    assert said
    assert load_bank(classes_out).names[:2] == ("cat", "dog")
    assert len(load_bank(classes_out)) > 2


def test_what_is_wrong_is_said_before_an_encoder_loads(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr("vlm_ood.encoders.load_encoder", load)
    out = tmp_path / "negatives.safetensors"

    with pytest.raises(UnknownNameError, match="recipe"):
        run("--classes", "cat,dog", "--recipe", "negs", "--lexicon", words, "--out", out)
    with pytest.raises(UnknownNameError, match="draw of superclasses"):
        run("--classes", "cat,dog", "--draw", "turn", "--lexicon", words, "--out", out)
    with pytest.raises(UnknownNameError, match="part of speech"):
        run("--classes", "cat,dog", "--overlap", "verb", "--lexicon", words, "--out", out)
    with pytest.raises(UnknownNameError, match=r"noun\.custom"):
        run("--classes", "cat,dog", "--only", "noun.animal", "--lexicon", words, "--out", out)
    with pytest.raises(ParameterError, match="keep"):
        run("--classes", "cat,dog", "--keep", 2, "--lexicon", words, "--out", out)
    words.write_bytes(b"\x00\xff")
    with pytest.raises(LexiconError, match="UTF-8"):
        run("--classes", "cat,dog", "--lexicon", words, "--out", out)
    assert not out.exists()
