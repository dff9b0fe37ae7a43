"""Positions of a vision transformer for a grid of any size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

GRIDS_KEPT: Final = 8  # one of 37 x 37 places takes 5.6 MB at ViT-L's width


@dataclass(frozen=True, eq=False)
class Positions:
    """A table of learned positions; other grids than its own are resized from it, and it is never written to.

    The resize is bicubic with antialiasing, the default of open_clip's `resize_pos_embed`, also for models of
    transformers (whose own `interpolate_pos_encoding` has no antialiasing): one checkpoint gives one result, whichever
    library it was loaded by.

    Args:
        table: (prefix + h * w, width): the tokens before the first patch, then the places of `grid` row by row.
        grid: (h, w).
        prefix: tokens before the first patch, 1 for a class token; their positions stay as they are.
    """

    table: Float[Tensor, "t width"]
    grid: tuple[int, int]
    prefix: int

    def __call__(self, grid: tuple[int, int]) -> Float[Tensor, "t width"]:
        """The positions of a grid (h, w), in the dtype and on the device of the table; the own grid's are the table."""
        return self.table if grid == self.grid else self._resized(grid)

    @cached_property
    def _resized(self) -> Callable[[tuple[int, int]], Tensor]:
        """Resizes and keeps the last few results; safe between threads."""
        return lru_cache(GRIDS_KEPT)(self._resize)

    def _resize(self, grid: tuple[int, int]) -> Float[Tensor, "t width"]:
        prefix, places = self.table[: self.prefix], self.table[self.prefix :]
        square = places.float().reshape(*self.grid, -1).permute(2, 0, 1)[None]  # (1, width, h, w)
        resized = functional.interpolate(square, size=grid, mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([prefix, resized[0].flatten(1).T.to(prefix.dtype)])
