"""WordNet's synonyms and hyponyms from a table in this package, without NLTK's data.

`lexicons/synsets.tsv.gz` has one synset per line: its part of speech (n or a), lexicographer file, sense number, the
lines of its hypernyms (instances count), and its lemmas, the head first. WordNet calls it head.part.number, as in
`animal.n.01`.
"""

import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from vlm_ood.errors import StorageError, UnknownNameError
from vlm_ood.io.packaged import data_folder

TABLE = "synsets.tsv.gz"


class Synset(NamedTuple):
    """Words with one meaning.

    Args:
        name: as in WordNet, "animal.n.01".
        file: lexicographer file.
        lemmas: cleaned, the head first.
        hypernyms: positions of the more general synsets.
    """

    name: str
    file: str
    lemmas: tuple[str, ...]
    hypernyms: tuple[int, ...] = ()


@dataclass(frozen=True)
class Thesaurus:
    """Synsets and the relations between them.

    Args:
        synsets: hypernyms are positions in this tuple.
    """

    synsets: tuple[Synset, ...]

    def synonyms(self, word: str) -> frozenset[str]:
        """The lemmas of every synset that has the cleaned word, in any of its senses."""
        rows = self._rows_of_word.get(word, ())
        return frozenset(lemma for row in rows for lemma in self.synsets[row].lemmas)

    def under(self, names: Iterable[str]) -> frozenset[str]:
        """Every lemma of the synsets and of all their hyponyms.

        Args:
            names: of synsets, such as "animal.n.01".

        Raises:
            UnknownNameError: no such synset; the message lists those of the same word.
        """
        waiting = [self._row(name) for name in names]
        reached = set(waiting)
        while waiting:
            found = [row for row in self._hyponyms[waiting.pop()] if row not in reached]
            reached.update(found)
            waiting.extend(found)
        return frozenset(lemma for row in reached for lemma in self.synsets[row].lemmas)

    def _row(self, name: str) -> int:
        row = self._row_of_name.get(name.replace(" ", "_"))
        if row is None:
            word = name.partition(".")[0].replace("_", " ")
            near = [self.synsets[row].name for row in self._rows_of_word.get(word, ())]
            raise UnknownNameError("synset", name, near or ["animal.n.01", "artifact.n.01", "person.n.01", "..."])
        return row

    @cached_property
    def _row_of_name(self) -> dict[str, int]:
        return {synset.name: row for row, synset in enumerate(self.synsets)}

    @cached_property
    def _rows_of_word(self) -> dict[str, list[int]]:
        rows = defaultdict(list)
        for row, synset in enumerate(self.synsets):
            for lemma in synset.lemmas:
                rows[lemma].append(row)
        return dict(rows)

    @cached_property
    def _hyponyms(self) -> list[list[int]]:
        below: list[list[int]] = [[] for _ in self.synsets]
        for row, synset in enumerate(self.synsets):
            for hypernym in synset.hypernyms:
                below[hypernym].append(row)
        return below


@cache
def thesaurus() -> Thesaurus:
    """The one that ships: nouns and adjectives of WordNet 3.0.

    Raises:
        StorageError: an installation whose table is missing or damaged.
    """
    path = data_folder("lexicons") / TABLE
    try:
        text = gzip.decompress(path.read_bytes()).decode()
        return Thesaurus(tuple(map(_parse, text.splitlines())))
    except (OSError, EOFError, ValueError) as error:
        raise StorageError(f"{path} can't be read: {error}; install vlm-ood again") from error


def write_table(path: Path, synsets: Iterable[Synset]) -> None:
    """The table of these synsets; the same bytes for the same synsets."""
    text = "".join(line + "\n" for line in _lines(synsets))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def _lines(synsets: Iterable[Synset]) -> Iterator[str]:
    for synset in synsets:
        part, number = synset.name.rsplit(".", 2)[1:]
        hypernyms = ",".join(map(str, synset.hypernyms))
        yield "\t".join([part, synset.file, str(int(number)), hypernyms, "|".join(synset.lemmas)])


def _parse(line: str) -> Synset:
    part, file, number, hypernyms, lemmas = line.split("\t")
    words = tuple(lemmas.split("|"))
    name = f"{words[0].replace(' ', '_')}.{part}.{int(number):02}"
    return Synset(name, file, words, tuple(map(int, hypernyms.split(","))) if hypernyms else ())
