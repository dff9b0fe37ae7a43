"""WordNet as a lexicon: the lists that ship, and any WordNet that NLTK reads."""

import os
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vlm_ood.errors import LexiconError, StorageError, UnknownNameError
from vlm_ood.io.packaged import data_folder
from vlm_ood.lexicons.lexicon import Lexicon, PartOfSpeech
from vlm_ood.lexicons.thesaurus import Synset, thesaurus
from vlm_ood.lexicons.words import clean_word, parse_words, read_words

CORPORA = ("paper", "full")
LEXICONS = tuple(f"wordnet-{corpus}" for corpus in reversed(CORPORA))

NOT_IN_PAPER = ("noun.animal", "noun.food")  # absent from the 27 lists that NegLabel's authors released


@cache
def wordnet(corpus: str = "full") -> Lexicon:
    """The lists that ship, from Princeton WordNet 3.0.

    Args:
        corpus: "full" has every lemma of the 26 noun and 3 adjective files; "paper" has what NegLabel and CSP mined:
            the first lemma of each synset, without the files noun.animal and noun.food.

    Raises:
        UnknownNameError: another corpus.
        StorageError: an installation whose lists are missing.
    """
    if corpus not in CORPORA:
        raise UnknownNameError("corpus", corpus, CORPORA)
    folder = data_folder("lexicons")
    try:
        about = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
        files = {path.stem: read_words(path) for path in sorted((folder / corpus).glob("*.txt"))}
    except OSError as error:
        raise StorageError(f"the word lists in {folder} can't be read: {error}; install vlm-ood again") from error
    return Lexicon(f"wordnet-{corpus}", files, about["source"], about["licence"])


def lexicon_named(name: str) -> Lexicon:
    """A word list that ships, by the name under which commands and requests ask for it.

    Raises:
        UnknownNameError: no such lexicon.
    """
    if name not in LEXICONS:
        raise UnknownNameError("lexicon", name, LEXICONS)
    return wordnet(name.removeprefix("wordnet-"))


@cache
def superclasses() -> tuple[str, ...]:
    """The 14 generic nouns that CSP attaches to adjectives, in its order."""
    text = (data_folder("lexicons") / "csp-superclasses.txt").read_text(encoding="utf-8")
    return tuple(text.split())


@cache
def everyday_words() -> tuple[str, ...]:
    """262 common nouns for things, places, animals and people, sorted; their mean vector stands for text in general."""
    text = (data_folder("lexicons") / "everyday.txt").read_text(encoding="utf-8")
    return tuple(text.split())


def lexicon_from_wordnet(reader: Any, corpus: str = "full", name: str = "wordnet") -> Lexicon:
    """The lists of `wordnet` from any WordNet that NLTK reads.

    Args:
        reader: an nltk WordNetCorpusReader, such as `nltk.corpus.wordnet`.
        corpus: "full" or "paper", as in `wordnet`.
        name: of the lexicon.

    Raises:
        UnknownNameError: another corpus.
    """
    return lexicon_of(synsets_of(reader), corpus, name)


def lexicon_of(synsets: Iterable[Synset], corpus: str = "full", name: str = "wordnet") -> Lexicon:
    """The lists of these synsets: all their lemmas for "full", the first of each for "paper".

    Raises:
        UnknownNameError: another corpus.
    """
    if corpus not in CORPORA:
        raise UnknownNameError("corpus", corpus, CORPORA)
    files: dict[str, set[str]] = {}
    for synset in synsets:
        if corpus == "full" or synset.file not in NOT_IN_PAPER:
            files.setdefault(synset.file, set()).update(synset.lemmas if corpus == "full" else synset.lemmas[:1])
    return Lexicon(name, {file: tuple(words) for file, words in files.items()})


def synsets_of(reader: Any) -> Iterator[Synset]:
    """The noun and adjective synsets of an NLTK WordNet, ordered by part of speech and offset."""
    found = [synset for part in "na" for synset in reader.all_synsets(part)]
    order = {synset: row for row, synset in enumerate(found)}
    for synset in found:
        lemmas = map(clean_word, synset.lemma_names())
        head = clean_word(synset.name().rsplit(".", 2)[0])
        words = tuple(dict.fromkeys([head, *lemmas]))
        hypernyms = synset.hypernyms() + synset.instance_hypernyms()
        rows = tuple(sorted(order[hypernym] for hypernym in hypernyms))
        yield Synset(synset.name(), synset.lexname(), words, rows)


def lexicon_from_file(path: str | os.PathLike[str], part: PartOfSpeech = "noun") -> Lexicon:
    """A user's own list: UTF-8 text, one word per line.

    Args:
        path: of the file.
        part: whether its words are nouns or adjectives: it decides their templates.

    Raises:
        FileNotFoundError: no such file.
        LexiconError: a folder; a file that is too large, not text, or holds something other than words.
    """
    if Path(path).is_dir():
        raise LexiconError(f"{path} is a folder: give a text file with one word per line")
    return Lexicon(Path(path).stem, {f"{part}.custom": read_words(path)}, source=str(path))


def lexicon_from_words(words: bytes | Sequence[str], name: str = "custom", part: PartOfSpeech = "noun") -> Lexicon:
    """A user's own list: words, or the content of a file as it was uploaded.

    Raises:
        LexiconError: a list that is too large, not text, or holds something other than words.
    """
    content = words if isinstance(words, bytes) else "\n".join(words).encode()
    return Lexicon(name, {f"{part}.custom": parse_words(content, name)})


def restrict(
    lexicon: Lexicon, *, only: Sequence[str] = (), under: Sequence[str] = (), not_under: Sequence[str] = ()
) -> Lexicon:
    """A lexicon restricted by lexicographer file and by WordNet's hierarchy.

    Args:
        lexicon: to restrict.
        only: files to keep, "noun.animal", or "noun" for all noun files; all when empty.
        under: synsets, "animal.n.01"; keeps words that have a sense at or under one of them; all when empty.
        not_under: synsets; drops words that have any sense at or under one of them.

    Raises:
        UnknownNameError: a file or a synset that doesn't exist.
        LexiconError: nothing is left.
    """
    if only:
        lexicon = lexicon.only(only)
    if under:
        lexicon = lexicon.keep(thesaurus().under(under))
    if not_under:
        lexicon = lexicon.drop(thesaurus().under(not_under))
    return lexicon
