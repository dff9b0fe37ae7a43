"""Words by file: parts of speech, overlaps, restrictions."""

from dataclasses import replace

import pytest

from vlm_ood.errors import LexiconError, UnknownNameError
from vlm_ood.lexicons import Lexicon

BASS = Lexicon(
    "bass",
    {
        "noun.food": ("bass", "bread"),
        "noun.animal": ("bass", "cat", "bass"),
        "adj.all": ("bass", "red"),
    },
)


def test_a_word_in_several_files_counts_for_the_first() -> None:
    assert BASS.entries("noun") == (("bass", "noun.animal"), ("bread", "noun.food"), ("cat", "noun.animal"))


def test_a_noun_that_is_an_adjective_too_is_a_noun() -> None:
    assert BASS.entries("adj") == (("red", "adj.all"),)
    assert len(BASS) == 4


def test_a_noun_that_is_an_adjective_too_can_be_an_adjective() -> None:
    """As for 406 of the 408 such words in the negatives that NegLabel's authors released."""
    other = replace(BASS, overlap="adj")

    assert other.entries("adj") == (("bass", "adj.all"), ("red", "adj.all"))
    assert other.entries("noun") == (("bread", "noun.food"), ("cat", "noun.animal"))
    assert other.drop({"red"}).entries("adj") == (("bass", "adj.all"),)
    assert other.digest != BASS.digest


def test_restricting_keeps_the_order_of_entries() -> None:
    assert BASS.only(["noun.food"]).entries("noun") == (("bass", "noun.food"), ("bread", "noun.food"))
    assert BASS.only(["adj"]).entries("adj") == (("bass", "adj.all"), ("red", "adj.all"))
    assert BASS.without(["noun", "verb.all"]).entries("noun") == ()
    assert BASS.keep({"cat"}).entries("noun") == (("cat", "noun.animal"),)
    assert len(BASS.drop({"bass"})) == 3


def test_an_unknown_file_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'noun\.animal'"):
        BASS.only(["noun.animals"])


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(LexiconError, match="nothing is left"):
        BASS.keep({"zebra"})
    with pytest.raises(LexiconError, match="holds no words"):
        Lexicon("empty", {})
    with pytest.raises(LexiconError, match=r"must start with noun\. or adj\."):
        Lexicon("verbs", {"verb.motion": ("run",)})


def test_digest_follows_the_words_and_not_the_name() -> None:
    same = Lexicon("other", {**BASS.files, "noun.animal": ("cat", "bass")})

    assert same.digest == BASS.digest
    assert BASS.drop({"cat"}).digest != BASS.digest
