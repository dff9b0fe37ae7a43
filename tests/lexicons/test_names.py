"""Which words name a class."""

import pytest

from vlm_ood.lexicons import key, naming_keys
from vlm_ood.lexicons.names import plurals, singulars


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("cats", "cat"),
        ("puppies", "puppy"),
        ("church mice", "church mouse"),
        ("oxen", "ox"),
        ("foxes", "fox"),
        ("benches", "bench"),
        ("glasses", "glass"),
        ("firemen", "fireman"),
        ("wolves", "wolf"),
    ],
)
def test_singular_and_plural_find_each_other(plural: str, singular: str) -> None:
    assert singular in singulars(plural)
    if plural != "church mice":
        assert plural in plurals(singular)
    assert key(plural) in naming_keys([singular], synonyms=False)
    assert key(singular) in naming_keys([plural], synonyms=False)


@pytest.mark.parametrize("word", ["glass", "brass", "s", "as"])
def test_a_word_that_only_looks_plural_stays(word: str) -> None:
    assert all(len(base) > 1 for base in singulars(word))
    assert word.removesuffix("s") not in singulars(word)


def test_spelling_with_blanks_hyphens_and_capitals_is_one_name() -> None:
    names = naming_keys(["Web-Site", "St. Bernard"], synonyms=False)

    assert {key("web site"), key("website"), key("st bernard")} <= names


def test_each_part_of_a_compound_name_is_a_name() -> None:
    names = naming_keys(["ram (adult male sheep)", "bell or wind chime", "baluster / handrail"], synonyms=False)

    assert {key(word) for word in ("ram", "bell", "wind chimes", "handrail")} <= names


def test_synonyms_are_names_unless_switched_off() -> None:
    with_synonyms, without = naming_keys(["dogs"]), naming_keys(["dogs"], synonyms=False)

    assert key("canis familiaris") in with_synonyms
    assert key("domestic dogs") in with_synonyms
    assert key("domestic dog") not in without
    assert key("cat") not in with_synonyms
    assert without < with_synonyms
