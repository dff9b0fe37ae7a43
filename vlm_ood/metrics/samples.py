"""What the metrics take: one-dimensional samples of finite numbers, from NumPy, torch or plain Python."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from vlm_ood.errors import ParameterError, VectorError

Sample = np.ndarray | Tensor | Sequence[float | int]


def as_sample(values: Sample, what: str, *, may_be_empty: bool = False) -> Float64[np.ndarray, " n"]:
    """The values in fp64, exactly as given.

    Args:
        values: numbers.
        what: how a message calls them.
        may_be_empty: whether no values at all are fine.

    Raises:
        VectorError: values that are no numbers, not finite, not one-dimensional, or none.
    """
    plain = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
    try:
        sample = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError):
        raise VectorError(f"{what} must be a flat list of numbers") from None
    if sample.ndim != 1:
        raise VectorError(f"{what} must have one axis, got {sample.shape}: give one number per image")
    bad = sample.size - int(np.isfinite(sample).sum())
    if bad:
        raise VectorError(f"{bad} of {sample.size} {what} are NaN or infinite: leave those images out")
    if not sample.size and not may_be_empty:
        raise VectorError(f"0 {what}: give at least one")
    return sample


def same_length(first: Float64[np.ndarray, " n"], second: Float64[np.ndarray, " m"], what: str) -> None:
    """Raise a VectorError when two samples of which rows go together differ in length."""
    if len(first) != len(second):
        raise VectorError(f"{what}: {len(first)} and {len(second)} values; give one of each per row")


def zeros_and_ones(correct: Sample) -> Float64[np.ndarray, " n"]:
    """Whether each prediction was right, as 0 and 1.

    Raises:
        VectorError: no values, or others than 0 and 1.
    """
    right = as_sample(correct, "values of correct")
    other = int(((right != 0) & (right != 1)).sum())
    if other:
        raise VectorError(f"{other} of {len(right)} values of correct are neither 0 nor 1")
    return right


def count_for(share: float, n: int, what: str) -> int:
    """The smallest count k with k / n >= share.

    The share is the decimal number that it prints as: 0.55 of 100 is 55, though the product in fp64 lies above 55.

    Raises:
        ParameterError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ParameterError(f"{what}={share}: give a share above 0, at most 1")
    return math.ceil(Fraction(str(float(share))) * n)
