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


def auroc(id_scores: Tensor, ood_scores: Tensor) -> float:
    """Share of pairs in which the OOD image scores higher, ties counting half."""
    ranks = rankdata(np.concatenate([id_scores.numpy(), ood_scores.numpy()]))
    n, m = len(id_scores), len(ood_scores)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
