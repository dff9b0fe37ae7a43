"""Accuracy, risk against coverage, and calibration of confidences."""

from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlm_ood.errors import ParameterError, VectorError
from vlm_ood.metrics import accuracy, augrc, aurc, auroc, e_aurc, ece, risk_coverage_curve

rows = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6)
confident = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30)


def test_accuracy_by_hand() -> None:
    assert accuracy(torch.tensor([0, 1, 2, 2]), [0, 1, 1, 2]) == 0.75


def test_area_below_risk_and_coverage_by_hand() -> None:
    # accepted in the order right, wrong, right: risks 0, 1/2, 1/3
    assert aurc([0.1, 0.2, 0.3], [True, False, True]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    # the best order has risks 0, 0, 1/3
    assert e_aurc([0.1, 0.2, 0.3], [True, False, True]) == pytest.approx(1 / 6)


def test_area_is_the_error_rate_when_scores_know_nothing() -> None:
    assert aurc([1, 1, 1, 1], [1, 0, 1, 1]) == pytest.approx(0.25)


def test_area_is_zero_without_errors_and_one_without_successes() -> None:
    assert aurc([3, 1, 2], [True, True, True]) == 0
    assert aurc([3, 1, 2], [False, False, False]) == 1
    assert e_aurc([3, 1, 2], [False, False, False]) == 0


@given(rows)
def test_a_tie_counts_as_the_mean_over_every_order(pairs: list[tuple[int, bool]]) -> None:
    orders = [order for order in permutations(pairs) if [s for s, _ in order] == sorted(s for s, _ in order)]
    risks = np.array([np.cumsum([not right for _, right in order]) / np.arange(1, len(pairs) + 1) for order in orders])
    assert aurc([s for s, _ in pairs], [right for _, right in pairs]) == pytest.approx(risks.mean())


@given(rows)
def test_no_order_beats_the_best_one(pairs: list[tuple[int, bool]]) -> None:
    assert e_aurc([s for s, _ in pairs], [right for _, right in pairs]) >= -1e-12


def test_curve_by_hand() -> None:
    # right at 0.1, one of two right at 0.2, wrong at 0.3
    coverage, risk = risk_coverage_curve([0.2, 0.1, 0.3, 0.2], [True, True, False, False])

    assert coverage.tolist() == [0.25, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 1 / 3, 1 / 2])


@given(rows)
def test_curve_is_the_loop_over_thresholds(pairs: list[tuple[int, bool]]) -> None:
    coverage, risk = risk_coverage_curve([s for s, _ in pairs], [right for _, right in pairs])
    for point, threshold in enumerate(sorted({s for s, _ in pairs})):
        accepted = [right for s, right in pairs if s <= threshold]
        assert coverage[point] == pytest.approx(len(accepted) / len(pairs))
        assert risk[point] == pytest.approx(accepted.count(False) / len(accepted))
    assert len(coverage) == len({s for s, _ in pairs})


def test_area_below_generalised_risk_by_hand() -> None:
    # accepted in the order right, wrong, right: shares of all images that are wrong 0, 0, 1/3, 1/3
    assert augrc([0.1, 0.2, 0.3], [True, False, True]) == pytest.approx((0 + 1 / 6 + 1 / 3) / 3)


def test_generalised_area_is_zero_without_errors_and_a_half_without_successes() -> None:
    assert augrc([3, 1, 2], [True, True, True]) == 0
    assert augrc([3, 1, 2], [False, False, False]) == 0.5


@given(rows)
def test_generalised_area_is_the_mean_over_every_order_of_ties(pairs: list[tuple[int, bool]]) -> None:
    n = len(pairs)
    areas = []
    for order in permutations(pairs):
        if [s for s, _ in order] == sorted(s for s, _ in order):
            undetected = [sum(not right for _, right in order[:k]) / n for k in range(n + 1)]
            areas.append(sum((a + b) / 2 / n for a, b in pairwise(undetected)))
    assert augrc([s for s, _ in pairs], [right for _, right in pairs]) == pytest.approx(sum(areas) / len(areas))


@given(rows.filter(lambda pairs: len({right for _, right in pairs}) == 2))
def test_generalised_area_is_that_of_error_rate_and_auroc(pairs: list[tuple[int, bool]]) -> None:
    right, wrong = ([s for s, correct in pairs if correct is kind] for kind in (True, False))
    errors = len(wrong) / len(pairs)
    expected = errors**2 / 2 + errors * (1 - errors) * (1 - auroc(right, wrong))
    assert augrc([s for s, _ in pairs], [correct for _, correct in pairs]) == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    # two bins: (0, 0.5] has confidence 0.4 and accuracy 1/2, (0.5, 1] confidence 0.9 and accuracy 1
    assert ece([0.3, 0.5, 0.9], [True, False, True], bins=2) == pytest.approx((2 * 0.1 + 1 * 0.1) / 3)


def test_calibration_error_takes_zero_and_one() -> None:
    assert ece([0.0, 1.0], [False, True]) == 0
    assert ece([0.0, 1.0], [True, False]) == 1


@given(confident, st.integers(1, 20))
def test_calibration_error_is_the_loop_over_bins(pairs: list[tuple[float, bool]], bins: int) -> None:
    confidence, right = np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins) | ((b == 0) & (confidence == 0))
        if inside.any():
            total += inside.sum() / len(pairs) * abs(right[inside].mean() - confidence[inside].mean())
    assert ece(confidence, right, bins) == pytest.approx(total)


def test_samples_of_different_length_are_refused() -> None:
    for figure in (accuracy, augrc, aurc, e_aurc, ece, risk_coverage_curve):
        with pytest.raises(VectorError, match=r"2 and 1 values|1 and 2 values"):
            figure([1, 0], [1])


def test_values_out_of_their_range_are_refused() -> None:
    with pytest.raises(VectorError, match=r"1 of 2 confidences lie outside \[0, 1\]"):
        ece([0.5, 1.2], [True, False])
    with pytest.raises(VectorError, match="1 of 2 values of correct are neither 0 nor 1"):
        aurc([0.5, 1.2], [1, 2])
    with pytest.raises(ParameterError, match="bins=0"):
        ece([0.5], [True], bins=0)
