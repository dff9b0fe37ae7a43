"""A lexicon: words by lexicographer file, and its restrictions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from vlm_ood.digests import digest_of
from vlm_ood.errors import LexiconError, UnknownNameError

PartOfSpeech = Literal["noun", "adj"]
PARTS_OF_SPEECH: tuple[PartOfSpeech, ...] = ("noun", "adj")


class Entry(NamedTuple):
    """A word and the lexicographer file it counts for."""

    word: str
    file: str


@dataclass(frozen=True)
class Lexicon:
    """Words by lexicographer file.

    Args:
        name: for messages and reports.
        files: {"noun.animal": words, "adj.all": words, ...}; the part of speech is before the dot. Words are sorted,
            and each is once in a file.
        source: where the words are from.
        licence: of the source.

    Raises:
        LexiconError: no words, or a file that is neither noun nor adj.
    """

    name: str
    files: Mapping[str, tuple[str, ...]]
    source: str = field(default="", compare=False)
    licence: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        unknown = [file for file in self.files if file.partition(".")[0] not in PARTS_OF_SPEECH]
        if unknown:
            raise LexiconError(f"lexicon {self.name!r}: {unknown[0]!r} must start with noun. or adj.")
        kept = {file: tuple(sorted(set(words))) for file, words in sorted(self.files.items()) if words}
        if not kept:
            raise LexiconError(f"lexicon {self.name!r} holds no words: give at least one")
        object.__setattr__(self, "files", kept)

    def __len__(self) -> int:
        return sum(len(self.entries(part)) for part in PARTS_OF_SPEECH)

    @property
    def digest(self) -> str:
        """Of the words by file."""
        return digest_of({file: list(words) for file, words in self.files.items()})

    def entries(self, part: PartOfSpeech) -> tuple[Entry, ...]:
        """The words of a part of speech, sorted, each once.

        A word in several files counts for the first of them by name; one that is noun and adjective is a noun.
        """
        return self._entries[part]

    @cached_property
    def _entries(self) -> dict[PartOfSpeech, tuple[Entry, ...]]:
        taken: dict[str, str] = {}
        entries = {}
        for part in PARTS_OF_SPEECH:
            owner: dict[str, str] = {}
            for file in reversed([file for file in self.files if file.startswith(part + ".")]):
                owner |= dict.fromkeys(self.files[file], file)
            entries[part] = tuple(Entry(word, owner[word]) for word in sorted(owner.keys() - taken.keys()))
            taken |= owner
        return entries

    def only(self, files: Sequence[str]) -> "Lexicon":
        """The lexicon of these files: "noun.animal", or "noun" for all of a part of speech.

        Raises:
            UnknownNameError: a file that the lexicon lacks.
        """
        return self._with({file: self.files[file] for file in self._matching(files)})

    def without(self, files: Sequence[str]) -> "Lexicon":
        """The lexicon less these files; those it doesn't have are no error."""
        present = [file for file in files if any(_matches(own, file) for own in self.files)]
        dropped = self._matching(present)
        return self._with({file: words for file, words in self.files.items() if file not in dropped})

    def keep(self, words: Collection[str]) -> "Lexicon":
        """The lexicon of these words."""
        return self._with({file: tuple(word for word in own if word in words) for file, own in self.files.items()})

    def drop(self, words: Collection[str]) -> "Lexicon":
        """The lexicon less these words."""
        return self._with({file: tuple(word for word in own if word not in words) for file, own in self.files.items()})

    def _matching(self, files: Sequence[str]) -> set[str]:
        for file in files:
            if not any(_matches(own, file) for own in self.files):
                raise UnknownNameError("lexicographer file", file, self.files)
        return {own for own in self.files if any(_matches(own, file) for file in files)}

    def _with(self, files: Mapping[str, tuple[str, ...]]) -> "Lexicon":
        if not any(files.values()):
            raise LexiconError(f"nothing is left of lexicon {self.name!r} with these restrictions: loosen one")
        return Lexicon(self.name, files, self.source, self.licence)


def _matches(own: str, file: str) -> bool:
    return own == file or own.partition(".")[0] == file
