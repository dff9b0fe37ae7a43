"""Which words name a class: its singular, plural, spelling variants and synonyms."""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from vlm_ood.io.packaged import data_folder
from vlm_ood.lexicons.thesaurus import thesaurus
from vlm_ood.lexicons.words import clean_word

# WordNet's rules of detachment for nouns, most specific first: morphy(7WN)
_DETACH = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("men", "man"))
_PUNCTUATION = str.maketrans("", "", " -'’.,/&")


def key(word: str) -> str:
    """A cleaned word without blanks and punctuation: "web site", "web-site" and "website" have one key."""
    return word.translate(_PUNCTUATION)


def naming_keys(names: Iterable[str], *, synonyms: bool = True) -> frozenset[str]:
    """The keys of every word that names one of the classes: each name, its singular and plural, and its synonyms.

    A name such as "ram (adult male sheep)" or "bell or wind chime" stands for each of its parts.

    Args:
        names: class names.
        synonyms: whether to include every word that shares a WordNet synset with a name, in any of its senses.
    """
    words = {form for name in names for part in _parts(name) for form in (part, *singulars(part))}
    if synonyms:
        words |= {synonym for word in words for synonym in thesaurus().synonyms(word)}
    return frozenset(key(form) for word in words for form in (word, *plurals(word)))


def singulars(word: str) -> tuple[str, ...]:
    """What the last word of a phrase may be the plural of: "church mice" gives "church mouse"."""
    head, last = _split(word)
    found = list(_irregular().get(last, ()))
    for ending, base in _DETACH:
        if last.endswith(ending):
            found.append(last.removesuffix(ending) + base)
            break
    if last.endswith("s") and not last.endswith("ss"):
        found.append(last[:-1])
    return tuple(dict.fromkeys(head + base for base in found if len(base) > 1))


def plurals(word: str) -> tuple[str, ...]:
    """The regular plural of a phrase and WordNet's irregular ones: "ox" gives "oxes" and "oxen"."""
    head, last = _split(word)
    return tuple(dict.fromkeys(head + form for form in (_regular_plural(last), *_irregular_plurals().get(last, ()))))


def _regular_plural(word: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word[:-3] + "men" if word.endswith("man") else word + "s"


def _split(phrase: str) -> tuple[str, str]:
    head, blank, last = phrase.rpartition(" ")
    return head + blank, last


def _parts(name: str) -> Iterator[str]:
    outside, *inside = re.split(r"[()]", name.lower())
    yield clean_word(name)
    for text in (outside, *inside):
        for part in re.split(r" or | / |,", text):
            if part.strip():
                yield clean_word(part)


@cache
def _irregular() -> dict[str, tuple[str, ...]]:
    """{"mice": ("mouse",), ...}, from WordNet's list of exceptions."""
    text = (data_folder("lexicons") / "noun-exceptions.txt").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return {plural: tuple(bases) for plural, *bases in rows}


@cache
def _irregular_plurals() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for plural, bases in _irregular().items():
        for base in bases:
            found.setdefault(base, []).append(plural)
    return {base: tuple(forms) for base, forms in found.items()}
