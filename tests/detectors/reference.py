"""What the detectors' tests compare with, written for clarity and in fp64."""

import numpy as np
from scipy.stats import rankdata
from torch import Tensor


def assert_same_order(scores: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Sorting by one sorts the other, but for neighbours within a share `tolerance` of the expected spread."""
    expected = expected.double()
    sorted_by_score = expected[scores.argsort()]
    spread = expected.max() - expected.min()
    assert (sorted_by_score.diff() > -tolerance * spread).all()


def auroc(belong: Tensor, strange: Tensor) -> float:
    """Share of pairs in which the strange image scores higher, ties counting half."""
    ranks = rankdata(np.concatenate([belong.numpy(), strange.numpy()]))
    n, m = len(belong), len(strange)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
