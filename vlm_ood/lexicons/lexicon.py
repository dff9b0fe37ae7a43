"""A lexicon: words by lexicographer file, and its restrictions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple

from vlm_ood.digests import digest_of
from vlm_ood.errors import LexiconError, UnknownNameError

PartOfSpeech = Literal["noun", "adj"]
PARTS_OF_SPEECH: tuple[PartOfSpeech, ...] = ("noun", "adj")


def part_of_speech(name: str) -> PartOfSpeech:
    """The part of speech, known to exist.

    Raises:
        UnknownNameError: it doesn't.
    """
    for known in PARTS_OF_SPEECH:
        if name == known:
            return known
    raise UnknownNameError("part of speech", name, PARTS_OF_SPEECH)


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
        overlap: as which part of speech a word counts that is in files of both.

    Raises:
        LexiconError: no words, or a file that is neither noun nor adj.
    """

    name: str
    files: Mapping[str, tuple[str, ...]]
    source: str = field(default="", compare=False)
    licence: str = field(default="", compare=False)
    overlap: PartOfSpeech = "noun"

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
        """Of the words by file, and of what words in files of both parts of speech count as."""
        return digest_of(self.overlap, {file: list(words) for file, words in self.files.items()})

    def entries(self, part: PartOfSpeech) -> tuple[Entry, ...]:
        """The words of a part of speech, sorted, each once.

        A word in several files of a part of speech counts for the first of them by name; one that is noun and adjective
        for `overlap` alone.
        """
        return self._entries[part]

    @cached_property
    def _entries(self) -> dict[PartOfSpeech, tuple[Entry, ...]]:
        owners = {part: self._owners(part) for part in PARTS_OF_SPEECH}
        entries = {}
        for part, owner in owners.items():
            taken = owners[self.overlap].keys() if part != self.overlap else set()
            entries[part] = tuple(Entry(word, owner[word]) for word in sorted(owner.keys() - taken))
        return entries

    def _owners(self, part: PartOfSpeech) -> dict[str, str]:
        """{word: the file it counts for}."""
        owner: dict[str, str] = {}
        for file in reversed([file for file in self.files if file.startswith(part + ".")]):
            owner |= dict.fromkeys(self.files[file], file)
        return owner

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
        return replace(self, files=files)


def _matches(own: str, file: str) -> bool:
    return own == file or own.partition(".")[0] == file
