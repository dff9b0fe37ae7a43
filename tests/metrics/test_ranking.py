"""Ranking metrics: by hand, against loops and scikit-learn, and their invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from vlm_ood.errors import ParameterError, VectorError
from vlm_ood.metrics import (
    accuracy,
    aupr_in,
    aupr_out,
    auroc,
    autc,
    detection_accuracy,
    fpr_at_nearest_tpr,
    fpr_at_ood_recall,
    fpr_at_tpr,
    oscr,
    roc_curve,
    tie_share,
)
from vlm_ood.metrics.samples import Sample

FIGURES = [
    auroc,
    tie_share,
    aupr_in,
    aupr_out,
    fpr_at_tpr,
    fpr_at_nearest_tpr,
    fpr_at_ood_recall,
    detection_accuracy,
    autc,
]
BY_RANK = [figure for figure in FIGURES if figure is not autc]

with_ties = st.lists(st.integers(-4, 4), min_size=1, max_size=25)
shares = st.sampled_from([0.05, 0.3, 0.5, 0.55, 0.9, 0.95, 1.0])


def test_figures_of_five_scores_by_hand() -> None:
    id_scores, ood_scores = [1, 2, 3], [2, 4]
    assert auroc(id_scores, ood_scores) == (1.5 + 3) / 6
    assert tie_share(id_scores, ood_scores) == 1 / 6
    assert aupr_in(id_scores, ood_scores) == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert aupr_out(id_scores, ood_scores) == pytest.approx((1 / 1 + 2 / 4) / 2)
    # scaled to [0, 1]: ID 0, 1/3, 2/3, OOD 1/3, 1
    assert autc(id_scores, ood_scores) == pytest.approx((1 / 3 + (1 - 2 / 3)) / 2)


def test_fpr_at_tpr_drawn_by_hand() -> None:
    #  ID   1 2 3 ... 18 19 20      accepting 95 % of twenty takes nineteen: t = 19
    #  OOD                18.5 19 19.5 25      18.5 and the tie are accepted
    id_scores = list(range(1, 21))
    assert fpr_at_tpr(id_scores, [18.5, 19, 19.5, 25]) == 0.5
    # one ID image more and nineteen are too few: t = 20
    assert fpr_at_tpr([*id_scores, 21], [18.5, 19, 19.5, 25]) == 0.75


def test_fpr_at_nearest_tpr_drawn_by_hand() -> None:
    #  ID   1 2 3 ... 18 19 20      nineteen of twenty are exactly 95 %, with t up to 19.5
    #  OOD                18.5 19 19.5 25      the first three are accepted
    id_scores, ood_scores = list(range(1, 21)), [18.5, 19, 19.5, 25]
    assert fpr_at_nearest_tpr(id_scores, ood_scores) == 0.75
    # of 25, 24 are 96 % and 23 are 92 %; of 10, 9 and 10 are equally near, and the larger counts
    assert fpr_at_nearest_tpr(range(25), [22.5, 23.5, 24.5, 25.5]) == 0.5
    assert fpr_at_nearest_tpr(range(10), [8.5, 9, 9.5]) == 2 / 3
    # at less than the asked recall it looks better: of 33, 31 are 93.9 % and 32 are 97.0 %
    assert fpr_at_nearest_tpr(range(33), [30.5, 31, 31.5, 32]) == 0.25
    assert fpr_at_tpr(range(33), [30.5, 31, 31.5, 32]) == 0.5


def test_detection_accuracy_by_hand() -> None:
    #  ID 1 2 3, OOD 2 4: t = 1 gives (1/3 + 1) / 2, t = 2 (2/3 + 1/2) / 2, t = 3 (1 + 1/2) / 2
    assert detection_accuracy([1, 2, 3], [2, 4]) == 0.75
    assert detection_accuracy([2, 4], [1, 2, 3]) == 0.5
    assert detection_accuracy([1, 2], [3]) == 1.0


def test_oscr_by_hand() -> None:
    #  right 1, wrong 2, right 4; OOD 3: the first is accepted before it, the last after it
    assert oscr([1, 2, 4], [True, False, True], [3]) == pytest.approx(1 / 3)
    assert oscr([1, 2, 3], [True, False, True], [3]) == pytest.approx(1.5 / 3)
    assert oscr([1, 2, 4], [False, False, False], [3]) == 0.0
    with pytest.raises(VectorError, match="ID scores and correct"):
        oscr([1, 2], [True], [3])
    with pytest.raises(VectorError, match="neither 0 nor 1"):
        oscr([1, 2], [1, 2], [3])


def test_fpr_at_ood_recall_drawn_by_hand() -> None:
    #  OOD  1 2 3 ... 20            catching 95 % of twenty takes nineteen: t = 2
    #  ID   0 1.5 2 3               2 (a tie) and 3 are rejected
    assert fpr_at_ood_recall([0, 1.5, 2, 3], list(range(1, 21))) == 0.5


def test_threshold_is_an_observed_score_and_never_interpolated() -> None:
    assert fpr_at_tpr([0.0, 1.0], [0.5, 0.96, 2.0], tpr=0.95) == pytest.approx(2 / 3)
    assert fpr_at_tpr([0.0, 1.0], [0.5, 0.96, 2.0], tpr=0.5) == 0.0


def test_a_share_is_the_decimal_that_it_prints_as() -> None:
    assert 0.55 * 100 > 55  # in fp64; the 56th image is not needed
    assert fpr_at_tpr(list(range(1, 101)), [55.5], tpr=0.55) == 0.0


def test_both_fprs_differ_where_the_sides_differ() -> None:
    id_scores, ood_scores = [0.0] * 95 + [10.0] * 5, [5.0] * 50 + [-1.0] * 50
    assert fpr_at_tpr(id_scores, ood_scores) == 0.5
    assert fpr_at_ood_recall(id_scores, ood_scores) == 1.0


def test_equal_scores_are_chance() -> None:
    assert auroc([1, 1], [1, 1, 1]) == 0.5
    assert autc([1, 1], [1, 1, 1]) == 0.5
    assert fpr_at_tpr([1, 1], [1, 1, 1]) == 1.0
    assert aupr_in([1, 1], [1, 1, 1]) == pytest.approx(0.4)


def test_autc_is_the_area_below_both_error_rates_over_the_threshold() -> None:
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(0, 1, 40), rng.normal(1, 1, 30)
    low, high = min(id_scores.min(), ood_scores.min()), max(id_scores.max(), ood_scores.max())
    thresholds = (np.arange(100_000) + 0.5) / 100_000 * (high - low) + low
    false_positives = [(id_scores > t).mean() for t in thresholds[::50]]
    false_negatives = [(ood_scores <= t).mean() for t in thresholds[::50]]
    area = (np.mean(false_positives) + np.mean(false_negatives)) / 2
    assert autc(id_scores, ood_scores) == pytest.approx(area, abs=1e-3)


def test_large_scores_do_not_saturate() -> None:
    assert auroc([1000.0, 1001.0], [1002.0, 1003.0]) == 1.0


@pytest.mark.parametrize("size", [np.finfo(np.float64).max, 1.0, np.finfo(np.float64).smallest_subnormal])
def test_figures_stay_in_their_range_at_the_ends_of_floats(size: float) -> None:
    """The difference of the largest two floats is infinite."""
    for figure in FIGURES:
        assert figure([-size], [size]) == (1.0 if figure in {auroc, aupr_in, aupr_out, detection_accuracy} else 0.0)
        for id_scores, ood_scores in (([size], [-size]), ([size], [size]), ([-size, size], [-size, size, 0.0])):
            assert 0 <= figure(id_scores, ood_scores) <= 1
    assert autc([size], [-size]) == 1.0
    assert autc([size], [size]) == 0.5
    assert oscr([size], [1], [size]) == 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_torch_numpy_and_lists_agree(dtype: torch.dtype) -> None:
    id_scores, ood_scores = torch.tensor([1, 2, 3], dtype=dtype), torch.tensor([2, 4], dtype=dtype)
    plain = id_scores.tolist(), ood_scores.tolist()
    for figure in FIGURES:
        expected = figure(*plain)
        assert type(expected) is float
        assert figure(id_scores, ood_scores) == expected == figure(np.array(plain[0]), np.array(plain[1]))


def test_neighbouring_float32_values_are_no_tie() -> None:
    below = torch.tensor([0.1], dtype=torch.float32)
    above = torch.nextafter(below, torch.ones(1))
    assert auroc(below, above) == 1.0
    assert tie_share(below, above) == 0.0


def test_a_tensor_with_gradient_is_taken() -> None:
    assert auroc(torch.zeros(2, requires_grad=True), torch.ones(2)) == 1.0


@pytest.mark.parametrize("figure", [*FIGURES, roc_curve])
@pytest.mark.parametrize(
    ("id_scores", "message"),
    [
        ([], "0 ID scores: give at least one"),
        ([1.0, float("nan"), float("inf")], "2 of 3 ID scores are NaN or infinite"),
        (torch.zeros(2, 1), r"ID scores must have one axis, got \(2, 1\)"),
        (np.array(["cat"]), "ID scores must be a flat list of numbers"),
    ],
)
def test_a_bad_sample_is_refused(figure: object, id_scores: Sample, message: str) -> None:
    assert callable(figure)
    with pytest.raises(VectorError, match=message):
        figure(id_scores, [1.0])


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ParameterError, match="above 0, at most 1"):
        fpr_at_tpr([1.0], [2.0], tpr=share)
    with pytest.raises(ParameterError, match="above 0, at most 1"):
        fpr_at_ood_recall([1.0], [2.0], recall=share)


@given(with_ties, with_ties)
def test_auroc_is_the_loop_over_all_pairs_and_scikit_learn(id_scores: list[int], ood_scores: list[int]) -> None:
    wins = sum((ood > own) + (ood == own) / 2 for ood in ood_scores for own in id_scores)
    value = auroc(id_scores, ood_scores)
    assert value == pytest.approx(wins / len(id_scores) / len(ood_scores))
    assert value == pytest.approx(roc_auc_score(*_labelled(id_scores, ood_scores)))


@given(with_ties, with_ties)
def test_average_precision_is_that_of_scikit_learn(id_scores: list[int], ood_scores: list[int]) -> None:
    is_ood, scores = _labelled(id_scores, ood_scores)
    assert aupr_out(id_scores, ood_scores) == pytest.approx(average_precision_score(is_ood, scores))
    assert aupr_in(id_scores, ood_scores) == pytest.approx(average_precision_score(1 - is_ood, -scores))


@given(with_ties, with_ties, shares)
def test_nearest_recall_is_the_loop_over_observed_thresholds(
    id_scores: list[int], ood_scores: list[int], share: float
) -> None:
    """As the papers' code has it: from the loosest useful threshold down, the first that is nearest."""
    accepted = {
        t: (sum(s <= t for s in id_scores) / len(id_scores), sum(s <= t for s in ood_scores) / len(ood_scores))
        for t in sorted({*id_scores, *ood_scores})
        if t <= max(id_scores)
    }
    nearest = min(accepted, key=lambda t: (round(abs(accepted[t][0] - share), 9), -accepted[t][0], -t))
    assert fpr_at_nearest_tpr(id_scores, ood_scores, share) == accepted[nearest][1]
    assert fpr_at_nearest_tpr(id_scores, ood_scores, 1.0) == fpr_at_tpr(id_scores, ood_scores, 1.0)


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=25), with_ties)
def test_oscr_is_the_area_below_the_curve(rows: list[tuple[int, bool]], ood_scores: list[int]) -> None:
    id_scores, correct = [score for score, _ in rows], [right for _, right in rows]
    thresholds = [-5, *sorted({*id_scores, *ood_scores})]
    rates = [sum(right for s, right in rows if s <= t) / len(rows) for t in thresholds]
    fprs = [sum(s <= t for s in ood_scores) / len(ood_scores) for t in thresholds]
    assert oscr(id_scores, correct, ood_scores) == pytest.approx(np.trapezoid(rates, fprs))
    assert oscr(id_scores, correct, ood_scores) <= accuracy(correct, [1] * len(correct)) + 1e-12


@given(with_ties, with_ties)
def test_detection_accuracy_is_the_loop_over_thresholds(id_scores: list[int], ood_scores: list[int]) -> None:
    means = [
        (sum(s <= t for s in id_scores) / len(id_scores) + sum(s > t for s in ood_scores) / len(ood_scores)) / 2
        for t in range(-5, 6)
    ]
    assert detection_accuracy(id_scores, ood_scores) == pytest.approx(max(means))


@given(with_ties, with_ties, shares)
def test_fpr_is_the_loop_over_observed_thresholds(id_scores: list[int], ood_scores: list[int], share: float) -> None:
    def shares_accepted(t: int) -> tuple[float, float]:
        return sum(s <= t for s in id_scores) / len(id_scores), sum(s <= t for s in ood_scores) / len(ood_scores)

    accepted = [shares_accepted(t) for t in sorted(id_scores)]
    assert fpr_at_tpr(id_scores, ood_scores, share) == next(fpr for tpr, fpr in accepted if tpr >= share)


@given(with_ties, with_ties, shares)
def test_both_fprs_are_mirror_images(id_scores: list[int], ood_scores: list[int], share: float) -> None:
    mirrored = fpr_at_tpr([-s for s in ood_scores], [-s for s in id_scores], share)
    assert fpr_at_ood_recall(id_scores, ood_scores, share) == mirrored


@given(with_ties, with_ties)
def test_exchanging_the_sides_mirrors_auroc(id_scores: list[int], ood_scores: list[int]) -> None:
    assert auroc(id_scores, ood_scores) + auroc(ood_scores, id_scores) == pytest.approx(1)


@given(with_ties, with_ties, st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(id_scores: list[int], ood_scores: list[int], random: object) -> None:
    shuffled = sorted(id_scores, key=lambda _: random.random()), ood_scores[::-1]  # type: ignore[attr-defined]
    for figure in FIGURES:
        assert figure(*shuffled) == pytest.approx(figure(id_scores, ood_scores))


@given(with_ties, with_ties)
def test_a_monotone_transform_changes_no_rank_figure(id_scores: list[int], ood_scores: list[int]) -> None:
    for figure in BY_RANK:
        assert figure(np.exp(id_scores), np.exp(ood_scores)) == figure(id_scores, ood_scores)


@given(with_ties, with_ties)
def test_roc_curve_is_that_of_scikit_learn_and_holds_the_other_figures(
    id_scores: list[int], ood_scores: list[int]
) -> None:
    fpr, tpr = roc_curve(id_scores, ood_scores)
    is_ood, scores = _labelled(id_scores, ood_scores)
    expected = sklearn_roc_curve(1 - is_ood, -scores, drop_intermediate=False)
    assert np.allclose(fpr, expected[0])
    assert np.allclose(tpr, expected[1])
    assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(id_scores, ood_scores))
    assert fpr[np.argmax(tpr >= 0.95)] == fpr_at_tpr(id_scores, ood_scores)


def _labelled(id_scores: list[int], ood_scores: list[int]) -> tuple[np.ndarray, np.ndarray]:
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    return is_ood, np.concatenate([id_scores, ood_scores]).astype(float)
