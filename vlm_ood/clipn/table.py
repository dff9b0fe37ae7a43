"""Caption tables: CSV, TSV or JSONL with the path of a picture and its caption in each row."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int64

from vlm_ood.clipn.pairs import Pair
from vlm_ood.digests import digest_of
from vlm_ood.errors import InputError

TABLES: Final = frozenset({".csv", ".tsv", ".jsonl"})


@dataclass(frozen=True)
class CaptionTable:
    """Rows of a CSV, TSV or JSONL file.

    Args:
        pictures: paths of the pictures.
        captions: one per picture.
        skipped: rows without a picture or a caption.
    """

    pictures: tuple[Path, ...]
    captions: tuple[str, ...]
    skipped: int = 0

    @property
    def digest(self) -> str:
        """Of paths and captions."""
        return digest_of("caption table", list(map(str, self.pictures)), list(self.captions))

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, row: int) -> Pair:
        return Pair(self.pictures[row], self.captions[row])

    def order(self, generator: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """The numbers of all rows, shuffled uniformly."""
        return generator.permutation(len(self))


def read_table(path: str | os.PathLike[str], *, image: str = "image", caption: str = "caption") -> CaptionTable:
    """The usable rows of a table.

    Args:
        path: a .csv or .tsv file with a header line, or a .jsonl file; UTF-8.
        image: the column or key with the path, relative to the table.
        caption: likewise with the caption.

    Raises:
        FileNotFoundError: no such file.
        InputError: not a table, columns of other names, or no usable row.
    """
    file = Path(path)
    pairs: list[tuple[Path, str]] = []
    rows = 0
    for row in _rows(file, {image, caption}):
        rows += 1
        picture, words = row.get(image), row.get(caption)
        if isinstance(picture, str) and isinstance(words, str) and picture.strip() and words.strip():
            pairs.append((file.parent / picture.strip(), words.strip()))
    if not pairs:
        raise InputError(f"{file}: none of {rows} rows has both {image!r} and {caption!r}")
    pictures, captions = zip(*pairs, strict=True)
    return CaptionTable(pictures, captions, rows - len(pairs))


def _rows(file: Path, wanted: set[str]) -> Iterator[Mapping[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix.lower() == ".jsonl":
                yield from map(_json_object, filter(str.strip, lines))
            else:
                yield from _delimited(file, lines, wanted)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} can't be read as a table in UTF-8: {error}") from None


def _delimited(file: Path, lines: Iterable[str], wanted: set[str]) -> Iterator[Mapping[str, Any]]:
    reader = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
    held = reader.fieldnames or []
    if wanted - set(held):
        raise InputError(f"{file} has the columns {list(held)} and lacks {sorted(wanted - set(held))}: name yours")
    yield from reader


def _json_object(line: str) -> Mapping[str, Any]:
    """The object of a line; a line that holds none counts as a row without values."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}
