"""Windows as in WinCLIP: a few neighbouring patches go through the whole transformer on their own.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023, arXiv 2303.14814. Tokens
are taken where positions are added and nothing else is done yet, so that a window knows where in the image it is; what
comes before the patches (the class token) goes with every window. Windows of 2 and 3 patches cost about eleven plain
passes at 240 pixels.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor


def window_cells(grid: tuple[int, int], side: int) -> Int[Tensor, "w cells"]:
    """For each window, by the row and column of its upper left patch, the numbers of its patches, row by row."""
    cells = torch.arange(grid[0] * grid[1]).view(grid)
    return cells.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)  # (rows, columns, side, side) before


def encode_windows(
    pooled: Callable[[Tensor], Tensor],
    embedded: Float[Tensor, "n t width"],
    grid: tuple[int, int],
    side: int,
    prefix: int,
) -> Float[Tensor, "n w d"]:
    """One vector of the joint space per window, in fp32.

    A pass holds no more tokens than the plain pass over the same images did, so that it needs no more memory.

    Args:
        pooled: from some tokens (b, prefix + cells, width) through the whole network to (b, d).
        embedded: all tokens with their positions, before the first layer norm.
        grid: (h, w) of the patches.
        side: of the windows, in patches.
        prefix: tokens before the first patch.
    """
    cells = window_cells(grid, side).to(embedded.device) + prefix
    everywhere = torch.arange(prefix, device=embedded.device).expand(len(cells), -1)
    rows = torch.cat([everywhere, cells], dim=1)  # (w, prefix + side²)
    n, t, _ = embedded.shape
    w, per_window = rows.shape
    vectors = []
    pairs = torch.arange(n * w, device=rows.device)
    for some in torch.split(pairs, max(1, n * t // per_window)):
        image, window = some // w, some % w
        vectors.append(pooled(embedded[image[:, None], rows[window]]).float())
    return torch.cat(vectors).view(n, w, -1)
