"""Pairs of a picture and its caption, by number.

A source hands out any pair at any moment, so that each process takes exactly its share of a batch and an interrupted
epoch goes on where it stood. In memory are only the places where the pairs lie.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Pair:
    """A picture, as a path or as the bytes of a file, and what it shows in words."""

    picture: Path | bytes
    caption: str


@runtime_checkable
class Pairs(Protocol):
    """A source of n pairs.

    Attributes:
        digest: of which pairs there are.
        skipped: records of the source that lack a picture or a caption.
    """

    @property
    def digest(self) -> str: ...

    @property
    def skipped(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Pair:
        """The pair of that number.

        Raises:
            ImageError: it can't be read any more.
        """

    def order(self, generator: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """The numbers of all pairs, shuffled."""
