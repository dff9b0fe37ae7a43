"""Sources of pairs of a picture and its caption, read by number.

Random access lets each process read exactly its share of a batch and an interrupted epoch continue where it stopped.
Only the places of the pairs are in memory, not the pairs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Pair:
    """A picture, as a path or as the bytes of a file, and its caption."""

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
            ImageError: a pair that can't be read.
        """

    def order(self, generator: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """The numbers of all pairs, shuffled."""
