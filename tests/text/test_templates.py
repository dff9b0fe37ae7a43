"""Template sets: what ships, what users may give, and that names are put in as they are."""

import tomllib
from pathlib import Path

import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from vlm_ood.errors import TemplateError, UnknownNameError
from vlm_ood.text.templates import Templates, template_sets, templates_named

FILES = sorted((ROOT / "prompts").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_set_that_ships_says_what_it_is(path: Path) -> None:
    content = tomllib.loads(path.read_text(encoding="utf-8"))

    templates = templates_named(path.stem)

    assert set(content) == {"source", "licence", "count", "average", "templates"}
    assert templates.name == path.stem
    assert templates.source == content["source"] != ""
    assert templates.licence == content["licence"] != ""
    assert templates.average == content["average"]
    assert templates.average in {"normalise_first", "mean_first"}
    assert len(templates) == content["count"]


def test_every_file_is_a_set() -> None:
    assert list(template_sets()) == [path.stem for path in FILES]
    assert {"single", "openai_7", "openai_80"} <= set(template_sets())


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("openai_7", open_clip.SIMPLE_IMAGENET_TEMPLATES), ("openai_80", open_clip.OPENAI_IMAGENET_TEMPLATES)],
)
def test_openai_sets_are_those_of_open_clip(name: str, theirs: tuple) -> None:  # type: ignore[type-arg]
    ours = templates_named(name)

    assert ours.prompts("tench") == [template("tench") for template in theirs]


def test_clipn_s_lines_keep_the_quotes_that_its_authors_tokenised() -> None:
    lines = templates_named("clipn_128").templates
    assert len(lines) == 128
    bare = [line.removesuffix(",").removeprefix("'").removesuffix("'") for line in lines]
    assert [line for line, words in zip(lines, bare, strict=True) if line != f"'{words}'"] == [
        "'a photo of a {}.',",
        "'a photo with a {}.',",
    ]
    assert set(bare[:64]) < set(templates_named("openai_80").templates)
    assert [words.replace(" of ", " with ") for words in bare[:64] if " of " in words] == [
        words for words, other in zip(bare[64:], bare[:64], strict=True) if " of " in other
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("single", "a photo of a cat."),
        ("single_no_stop", "a photo of a cat"),
        ("nice", "the nice cat"),
        ("plain", "cat"),
    ],
)
def test_sets_of_one_follow_the_papers_to_the_full_stop(name: str, sentence: str) -> None:
    assert templates_named(name).prompts("cat") == [sentence]


def test_users_give_a_list_a_sentence_or_a_ready_set() -> None:
    ready = Templates(("a {}.", "the {}."), average="mean_first")

    assert templates_named(["a {}.", "the {}."]).prompts("cat") == ["a cat.", "the cat."]
    assert templates_named(("a {}.",)).name == "custom"
    assert templates_named("an old {}.").templates == ("an old {}.",)
    assert templates_named(ready) is ready


@given(name=st.text())
def test_a_name_is_put_in_as_it_is_braces_and_all(name: str) -> None:
    assert Templates(("<{}>",)).prompts(name) == [f"<{name}>"]


@pytest.mark.parametrize("name", ["{}", "{0}", "{name}", "{{", "a}b", "%s", "\\1"])
def test_names_that_look_like_code_are_names(name: str) -> None:
    assert Templates(("a {} b",)).prompts(name) == ["a " + name + " b"]


@pytest.mark.parametrize("template", ["a photo", "", "{} and {}", "a {0}", "a {name}", "{{}}", "a {} {", "a } {}"])
def test_a_template_without_exactly_one_placeholder_is_refused(template: str) -> None:
    with pytest.raises(TemplateError, match="exactly one"):
        templates_named([template])


def test_templates_given_twice_are_refused_by_name() -> None:
    with pytest.raises(TemplateError, match=r"'a \{\}\.'; each would weigh double"):
        templates_named(["a {}.", "the {}.", "a {}."])


def test_no_templates_are_refused() -> None:
    with pytest.raises(TemplateError, match="empty"):
        templates_named([])


@pytest.mark.parametrize("name", ["opanai_80", "", "../pyproject", "single.toml"])
def test_an_unknown_set_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match="openai_80"):
        templates_named(name)
