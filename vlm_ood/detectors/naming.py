"""Which names take the largest shares per image, in an order that does not depend on how a library breaks ties."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def strongest(names: Sequence[str], shares: Float[Tensor, "n c"], top: int) -> list[list[tuple[str, float]]]:
    """Per image the `top` names with the largest shares, largest first; of equal shares the first in the bank."""
    columns = first_largest(shares, top)
    values = shares.gather(1, columns)
    return [
        [(names[column], value) for column, value in zip(row, row_values, strict=True)]
        for row, row_values in zip(columns.tolist(), values.tolist(), strict=True)
    ]


def first_largest(values: Float[Tensor, "n c"], top: int) -> Int[Tensor, "n k"]:
    """The columns of the `top` largest values per row, largest first; of equal values the first column.

    `topk` takes any of equal values. Which ones, and in which order, depends on the number of columns and the device.
    """
    top = min(top, values.shape[1])
    if top == 0:
        return values.new_empty((len(values), 0)).long()
    best = values.topk(min(top + 1, values.shape[1]), dim=1)
    if top < values.shape[1] and (best.values[:, top - 1] == best.values[:, top]).any():
        columns = _with_the_first_of_equals(values, best.values[:, top - 1 : top], top)
    else:
        columns = best.indices[:, :top].sort(dim=1).values
    order = values.gather(1, columns).argsort(dim=1, descending=True, stable=True)
    return columns.gather(1, order)  # stable, and the columns are in order: of equal values the first comes first


def _with_the_first_of_equals(
    values: Float[Tensor, "n c"], least: Float[Tensor, "n 1"], top: int
) -> Int[Tensor, "n k"]:
    """The `top` columns in order whose values are above `least`, or equal to it and the first to be so."""
    above, equal = values > least, values == least
    chosen = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= top - above.sum(dim=1, keepdim=True)))
    return chosen.nonzero()[:, 1].view(len(values), top)
