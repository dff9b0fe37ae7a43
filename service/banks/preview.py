"""Finds the nearest names of the first names of a bank, in chunks of bounded memory."""

from collections.abc import Iterator
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from service.banks.records import Near, PreviewRow
from vlm_ood.types import TextBank

NEAREST: Final = 3  # per name
CHUNK: Final = 4096  # rows compared at once: 200 names make 3 MiB of cosines


def preview(bank: TextBank, limit: int, against: TextBank | None = None) -> list[PreviewRow]:
    """The first names of a bank, each with its `NEAREST` nearest names by cosine, largest first.

    Args:
        bank: of the names.
        limit: the number of names.
        against: the bank to search; by default `bank`, where a name is not its own neighbour.
    """
    first, others = bank.embeddings[:limit], bank if against is None else against
    best, rows = _nearest(first, others.embeddings, itself=against is None)
    return [
        PreviewRow(name=name, nearest=list(_near(others, values, indices)))
        for name, values, indices in zip(bank.names[:limit], best.tolist(), rows.tolist(), strict=True)
    ]


def _near(others: TextBank, cosines: list[float], rows: list[int]) -> Iterator[Near]:
    for cosine, row in zip(cosines, rows, strict=True):
        if cosine > -torch.inf:
            yield Near(name=others.names[row], cosine=max(-1.0, min(1.0, cosine)))


def _nearest(
    first: Float[Tensor, "n d"], others: Float[Tensor, "c d"], *, itself: bool
) -> tuple[Float[Tensor, "n k"], Tensor]:
    """(n, k) largest cosines per row, and (n, k) their rows in `others`; k is `NEAREST`, or fewer for few rows."""
    best, rows = torch.empty(len(first), 0), torch.empty(len(first), 0, dtype=torch.long)
    for start in range(0, len(others), CHUNK):
        cosines = first @ others[start : start + CHUNK].T  # (n, at most CHUNK)
        if itself:
            own = torch.arange(len(first)) - start
            here = (own >= 0) & (own < cosines.shape[1])
            cosines[here.nonzero().flatten(), own[here]] = -torch.inf
        places = torch.arange(start, start + cosines.shape[1]).expand(len(first), -1)
        best, rows = torch.cat([best, cosines], dim=1), torch.cat([rows, places], dim=1)
        best, kept = best.topk(min(NEAREST, best.shape[1]), dim=1)
        rows = rows.gather(1, kept)
    return best, rows
