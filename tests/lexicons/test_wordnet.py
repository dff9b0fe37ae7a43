"""The lists that ship: what the manifest says, and what the papers' authors mined."""

import gzip
import hashlib
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlm_ood.errors import LexiconError, UnknownNameError
from vlm_ood.io.packaged import data_folder
from vlm_ood.lexicons import (
    lexicon_from_file,
    lexicon_from_wordnet,
    lexicon_from_words,
    restrict,
    superclasses,
    wordnet,
)
from vlm_ood.lexicons.thesaurus import Synset, Thesaurus, thesaurus, write_table
from vlm_ood.lexicons.wordnet import CORPORA


def test_files_are_those_of_the_manifest() -> None:
    folder = data_folder("lexicons")
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    listed = {name: entry for name, entry in manifest.items() if isinstance(entry, dict)}
    present = {str(path.relative_to(folder)) for path in folder.rglob("*.txt")}

    assert present | {"synsets.tsv.gz"} == set(listed)
    for name, entry in listed.items():
        content = (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
        text = gzip.decompress(content) if name.endswith(".gz") else content
        assert text.count(b"\n") == entry["lines"], name


def test_shipped_lists_pass_the_rules_for_users_lists() -> None:
    for corpus in CORPORA:
        shipped = {path.stem: path.read_text() for path in (data_folder("lexicons") / corpus).glob("*.txt")}
        assert len(shipped) > 10
        for name, words in shipped.items():
            assert wordnet(corpus).files[name] == tuple(words.splitlines())


def test_full_corpus_has_every_noun_and_adjective() -> None:
    full = wordnet("full")

    assert sum(file.startswith("noun.") for file in full.files) == 26
    assert len(full.entries("noun")) == 117_798  # WordNet's own statistics, wnstats(7WN)
    assert len(full.entries("noun")) + len(full.entries("adj")) == len(full) == 136_139


def test_paper_corpus_is_what_neglabels_authors_mined(shared_data: Path) -> None:
    """Their lists came from a slightly newer WordNet, and 11 of the adjectives carry a stray bracket."""
    lines = (shared_data / "neglabel" / "released-negatives-in1k.txt").read_text().splitlines()
    nouns = {line.removeprefix("the nice ") for line in lines if line.startswith("the nice ")}
    adjectives = {line[len("This is a ") : -len(" photo")] for line in lines if line.startswith("This is a ")}
    paper = wordnet("paper")
    own_nouns = {word for file, words in paper.files.items() if file.startswith("noun") for word in words}
    own_adjectives = {word for file, words in paper.files.items() if file.startswith("adj") for word in words}

    assert (len(nouns), len(adjectives)) == (8578, 1921)
    assert len(nouns - own_nouns) == 29
    assert all(word.startswith("[") for word in adjectives - own_adjectives)
    assert (len(own_nouns), len(own_adjectives)) == (58_514, 14_006)  # theirs: 58 546 and 13 091
    assert not {"noun.animal", "noun.food"} & set(paper.files)


def test_superclasses_are_the_fourteen() -> None:
    assert len(set(superclasses())) == 14


def test_restricting_by_subtree() -> None:
    few = wordnet("full").only(["noun.animal", "noun.person", "noun.motive"])
    animals = restrict(few, under=["animal.n.01"])
    words = {word for word, _ in animals.entries("noun")}

    assert {"tabby cat", "goldfish"} <= words
    assert "urge" not in words
    assert "philosopher" not in {word for word, _ in restrict(few, not_under=["person.n.01"]).entries("noun")}


def test_an_unknown_synset_is_answered_with_those_of_the_word() -> None:
    with pytest.raises(UnknownNameError, match=r"animal\.n\.01"):
        restrict(wordnet(), under=["animal.n.07"])
    with pytest.raises(UnknownNameError, match="corpus"):
        wordnet("papers")
    with pytest.raises(LexiconError, match="nothing is left"):
        restrict(wordnet(), only=["noun.motive"], under=["animal.n.01"])


def test_table_keeps_names_relations_and_bytes(tmp_path: Path) -> None:
    synsets = thesaurus().synsets
    path = tmp_path / "table.gz"

    write_table(path, synsets)

    assert path.read_bytes() == (data_folder("lexicons") / "synsets.tsv.gz").read_bytes()
    assert len({synset.name for synset in synsets}) == len(synsets)


def test_under_follows_several_parents_and_survives_a_loop() -> None:
    loop = Thesaurus(
        (
            Synset("a.n.01", "noun.Tops", ("a",), (2,)),
            Synset("b.n.01", "noun.Tops", ("b", "bee"), (0,)),
            Synset("c.n.01", "noun.Tops", ("c",), (0, 1)),
        )
    )

    assert loop.under(["b.n.01"]) == {"a", "b", "bee", "c"}
    assert loop.synonyms("bee") == {"b", "bee"}


def test_any_wordnet_that_nltk_reads_becomes_a_lexicon() -> None:
    lexicon = lexicon_from_wordnet(_Reader())

    assert lexicon.files == {"adj.all": ("wild",), "noun.animal": ("cat", "true cat"), "noun.artifact": ("ox cart",)}
    assert lexicon_from_wordnet(_Reader(), "paper").files == {"adj.all": ("wild",), "noun.artifact": ("ox cart",)}


def test_users_lists(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Red_Kite\nowl\n")

    assert lexicon_from_file(path).entries("noun") == (("owl", "noun.custom"), ("red kite", "noun.custom"))
    assert lexicon_from_file(path, "adj").files == {"adj.custom": ("owl", "red kite")}
    assert lexicon_from_words(["owl", "Red Kite"]).digest == lexicon_from_file(path).digest
    assert lexicon_from_words(path.read_bytes()).digest == lexicon_from_file(path).digest
    with pytest.raises(LexiconError, match="folder"):
        lexicon_from_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        lexicon_from_file(tmp_path / "absent.txt")


class _Reader:
    """As much of NLTK's reader as is asked."""

    def all_synsets(self, part: str) -> list[Any]:
        rows = {
            "n": [
                _synset("cat.n.01", "noun.animal", "Cat", "true_cat"),
                _synset("ox_cart.n.01", "noun.artifact", "ox_cart"),
            ],
            "a": [_synset("wild.s.01", "adj.all", "wild(a)")],
        }
        return rows[part]


def _synset(name: str, file: str, *lemmas: str) -> Any:
    class Row(SimpleNamespace):
        __hash__ = object.__hash__  # type: ignore[assignment]

    return Row(
        name=lambda: name,
        lexname=lambda: file,
        lemma_names=lambda: list(lemmas),
        hypernyms=list,
        instance_hypernyms=list,
    )
