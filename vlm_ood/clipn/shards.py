"""Tar shards as webdataset writes them: members `x.jpg` and `x.txt`, one after the other, are a pair.

A shard is never unpacked. Its headers are read once, then a pair is two reads at known places. Links, devices, sparse
members and members above the limits of size are skipped.
"""

import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from jaxtyping import Int64

from vlm_ood.clipn.pairs import Pair
from vlm_ood.digests import digest_of
from vlm_ood.errors import ImageError, InputError
from vlm_ood.images import SUFFIXES, ImageLimits

CAPTION_BYTES: Final = 64 * 2**10
NEIGHBOURS: Final = 16  # shards that are mixed with each other, so that a disk or a network share reads in stretches

Place = tuple[int, int]  # offset and size in bytes


@dataclass(frozen=True, eq=False)
class Shards:
    """Pairs in tar files.

    Args:
        paths: of the shards.
        places: per pair the number of its shard, offset and size of the picture, offset and size of the caption.
        skipped: samples without a picture or a caption, and one for each damaged shard.
    """

    paths: tuple[Path, ...]
    places: Int64[np.ndarray, "n 5"]
    skipped: int = 0

    @property
    def digest(self) -> str:
        """Of the shards' names and the places."""
        return digest_of("shards", [path.name for path in self.paths], self.places.tobytes())

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> Pair:
        shard, *places = self.places[row].tolist()
        try:
            with self.paths[shard].open("rb") as file:
                picture, caption = _read(file, *places[:2]), _read(file, *places[2:])
        except OSError as error:
            raise ImageError(f"{self.paths[shard]} can't be read: {error.strerror or error}") from None
        return Pair(picture, caption.decode("utf-8", errors="replace").strip())

    def order(self, generator: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """The numbers of all pairs: shards shuffled, then pairs shuffled within groups of `NEIGHBOURS` shards."""
        stretch = generator.permutation(len(self.paths)) // NEIGHBOURS
        rows = generator.permutation(len(self))
        return rows[np.argsort(stretch[self.places[rows, 0]], kind="stable")]


def open_shards(paths: Sequence[str | os.PathLike[str]]) -> Shards:
    """Read the headers of all shards.

    Args:
        paths: uncompressed tar files.

    Raises:
        FileNotFoundError: no such file.
        InputError: not a tar file, or shards without a single pair.
    """
    files = tuple(map(Path, paths))
    places: list[tuple[int, ...]] = []
    skipped = 0
    for shard, file in enumerate(files):
        for sample in _samples(file):
            if sample is not None and set(sample) == {"picture", "caption"}:
                places.append((shard, *sample["picture"], *sample["caption"]))
            else:
                skipped += 1
    if not places:
        raise InputError(f"no pair of a picture and a .txt in {', '.join(map(str, files))}; {skipped} samples lack one")
    return Shards(files, np.array(places, dtype=np.int64), skipped)


def _samples(file: Path) -> Iterator[dict[str, Place] | None]:
    """Where the parts of each sample are; None at the end of a damaged shard."""
    name, sample = "", dict[str, Place]()
    try:
        with tarfile.open(file, "r:") as shard:
            for member_name, part, place in _parts(shard):
                if member_name != name and sample:
                    yield sample
                    sample = {}
                name = member_name
                sample[part] = place
    except tarfile.TarError as error:
        if not name:
            raise InputError(f"{file} is not an uncompressed tar file: {error}") from None
        yield sample or None
        yield None
        return
    if sample:
        yield sample


def _parts(shard: Iterable[tarfile.TarInfo]) -> Iterator[tuple[str, str, Place]]:
    """Of each usable member the name of its sample, "picture" or "caption", and its place."""
    for member in shard:
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        part = "caption" if suffix.lower() == "txt" else "picture" if f".{suffix.lower()}" in SUFFIXES else ""
        limit = CAPTION_BYTES if part == "caption" else ImageLimits().max_bytes
        if part and member.isreg() and not member.issparse() and 0 < member.size <= limit:
            yield f"{folder}/{stem}", part, (member.offset_data, member.size)


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
