"""Confidence intervals by resampling."""

import numpy as np
import pytest
import torch

from vlm_ood.errors import ParameterError, VectorError
from vlm_ood.metrics import Interval, accuracy, auroc, bootstrap


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def test_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap(mean, values, resamples=2000, level=0.9)
    half = 1.645 * values.std() / 20
    assert interval.value == values.mean()
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_interval_of_separated_samples_is_a_point() -> None:
    assert bootstrap(auroc, [0, 1, 2], torch.tensor([3.0, 4.0]), resamples=20) == Interval(1.0, 1.0, 1.0)


def test_each_sample_is_drawn_at_its_own_size_from_its_own_values() -> None:
    seen: list[tuple[set[float], int, set[float], int]] = []

    def spy(first: np.ndarray, second: np.ndarray) -> float:
        seen.append((set(first), len(first), set(second), len(second)))
        return 0.0

    bootstrap(spy, [1, 2, 3], [7, 8, 9, 10, 11], resamples=50)
    assert all(a <= {1, 2, 3} and n == 3 and b <= {7, 8, 9, 10, 11} and m == 5 for a, n, b, m in seen)
    assert len({(frozenset(a), frozenset(b)) for a, _, b, _ in seen}) > 10


def test_paired_samples_are_drawn_by_rows() -> None:
    labels = list(range(10))
    assert bootstrap(accuracy, labels, labels, resamples=20, paired=True) == Interval(1.0, 1.0, 1.0)
    assert bootstrap(accuracy, labels, labels, resamples=20).low < 1


def test_a_seed_gives_the_same_interval_and_leaves_the_global_state_alone() -> None:
    values, before = np.arange(30.0), _global_state()
    assert bootstrap(mean, values, seed=3) == bootstrap(mean, values, seed=3)
    assert bootstrap(mean, values, seed=3) != bootstrap(mean, values, seed=4)
    assert _global_state() == before


def test_a_higher_level_gives_a_wider_interval() -> None:
    values = np.arange(50.0)
    narrow, wide = bootstrap(mean, values, level=0.5), bootstrap(mean, values, level=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_what_can_not_be_resampled_is_refused() -> None:
    with pytest.raises(VectorError, match="0 values"):
        bootstrap(mean, [])
    with pytest.raises(VectorError, match="2 and 3 values"):
        bootstrap(accuracy, [1, 2], [1, 2, 3], paired=True)
    with pytest.raises(ParameterError, match="resamples=0"):
        bootstrap(mean, [1, 2], resamples=0)
    with pytest.raises(ParameterError, match="level=1"):
        bootstrap(mean, [1, 2], level=1.0)


def _global_state() -> tuple[list[int], int]:
    state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 the state that must not move
    return state["key"].tolist(), state["pos"]
