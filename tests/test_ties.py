"""Exact ties: equal scores and equal names, wherever something is ranked, compared or counted."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vlm_ood as vo
from vlm_ood import metrics
from vlm_ood.calibration import Calibration
from vlm_ood.detectors.naming import first_largest, strongest
from vlm_ood.evaluation import FeatureSet, evaluate
from vlm_ood.negatives.select import most_similar
from vlm_ood.results import judge

few = st.lists(st.integers(-2, 2), min_size=1, max_size=30)
NAMES = tuple(f"name {row}" for row in range(50))


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 2**16), st.integers(1, 4))
def test_the_largest_are_those_of_a_stable_sort(columns: int, top: int, seed: int, kinds: int) -> None:
    values = torch.randint(kinds, (5, columns), generator=torch.Generator().manual_seed(seed)).float()
    expected = values.sort(dim=1, descending=True, stable=True).indices[:, :top]
    assert torch.equal(first_largest(values, top), expected)
    assert torch.equal(torch.cat([first_largest(row[None], top) for row in values]), expected)


def test_no_images_have_no_names() -> None:
    assert strongest(NAMES, torch.empty(0, 50), 3) == []
    assert strongest(NAMES, torch.ones(2, 50), 0) == [[], []]
    assert strongest((), torch.empty(2, 0), 3) == [[], []]


def task_of_equals(rows: int) -> vo.Task:
    """Every class in one place, every negative in another, every negated prompt in a third."""
    places = torch.eye(3)
    banks = [vo.TextBank(NAMES[:rows], places[place].expand(rows, -1)) for place in range(3)]
    return vo.Task(classes=banks[0], negatives=banks[1], no=banks[2])


@pytest.mark.parametrize(
    "name", [name for name in vo.detector_names() if vo.create_detector(name).needs <= {"negatives", "no"}]
)
@pytest.mark.parametrize("rows", [2, 5, 16, 17, 50])
def test_equal_classes_and_negatives_are_named_in_the_order_of_the_bank(name: str, rows: int) -> None:
    fitted = vo.create_detector(name).fit(task_of_equals(rows))
    patches = torch.tensor([[0.6, 0.5, 0.4]]).expand(3, 1, 3)
    images = vo.ImageFeatures(torch.tensor([[0.6, 0.5, 0.4]]).expand(3, 3), patches, (1, 1))
    for row in judge(fitted, ["a", "b", "c"], images, top=4):
        assert [near.name for near in row.classes] == list(NAMES[:rows][:4])
        assert [near.probability for near in row.classes] == pytest.approx([1 / rows] * min(4, rows))
        assert [near.name.removeprefix("no ") for near in row.negatives] in ([], list(NAMES[:rows][:4]))
        assert len({near.probability for near in row.negatives}) <= 1


@given(few, few)
def test_figures_of_tied_scores_are_those_of_all_pairs(id_scores: list[int], ood_scores: list[int]) -> None:
    pairs = list(product(id_scores, ood_scores))
    wins = sum(ood > id_ for id_, ood in pairs) + sum(ood == id_ for id_, ood in pairs) / 2
    assert metrics.auroc(id_scores, ood_scores) == pytest.approx(wins / len(pairs))
    assert metrics.tie_share(id_scores, ood_scores) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    id_, ood = np.array(id_scores), np.array(ood_scores)
    accepting = [t for t in id_ if (id_ <= t).mean() >= 0.95]
    assert metrics.fpr_at_tpr(id_scores, ood_scores) == pytest.approx((ood <= min(accepting)).mean())
    catching = [t for t in ood if (ood >= t).mean() >= 0.95]
    assert metrics.fpr_at_ood_recall(id_scores, ood_scores) == pytest.approx((id_ >= max(catching)).mean())
    best = max(((id_ <= t).mean() + (ood > t).mean()) / 2 for t in (*id_, *ood, id_.min() - 1))
    assert metrics.detection_accuracy(id_scores, ood_scores) == pytest.approx(best)
    fpr, tpr = metrics.roc_curve(id_scores, ood_scores)
    assert len(fpr) == 1 + len({*id_scores, *ood_scores})
    assert (np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum() == pytest.approx(wins / len(pairs))


@given(few, st.sampled_from([0.5, 0.8, 0.9]))
def test_a_score_that_ties_with_the_threshold_belongs(scores: list[int], keep: float) -> None:
    calibration = Calibration.of(scores, keep)
    assert not calibration.is_ood([calibration.threshold]).any()
    for score in {*scores}:
        at_least = sum(other >= score for other in scores)
        assert calibration.p_values([score])[0] == pytest.approx((1 + at_least) / (1 + len(scores)))
        assert bool(calibration.is_ood([score])[0]) == (score > calibration.threshold)


def test_equal_scores_of_a_whole_set_reject_none_and_say_so() -> None:
    calibration = Calibration.of([0.25] * 30)
    assert calibration.is_ood([0.25] * 3).tolist() == [False] * 3
    assert calibration.p_values([0.25, 0.2, 0.3]).tolist() == [1.0, 1.0, 1 / 31]


def test_an_evaluation_of_equal_scores_is_a_coin_toss() -> None:
    images = vo.ImageFeatures(torch.eye(2)[:1].expand(4, -1))
    task = vo.Task(vo.TextBank(("a", "b"), torch.eye(2)))
    sets = [FeatureSet.of("far", images)]
    done = evaluate({"mcm": vo.create_detector("mcm")}, task, FeatureSet.of("ID", images), sets, bootstrap=5)
    (figures,) = done.comparisons
    assert (figures.auroc, figures.fpr_at_95_id, figures.fpr_at_95_ood, figures.detection_accuracy) == (0.5, 1, 1, 0.5)
    assert (figures.aupr_in, figures.aupr_out) == (0.5, 0.5)
    assert (figures.intervals["auroc"].low, figures.intervals["auroc"].high) == (0.5, 0.5)


@given(st.integers(1, 5), st.integers(0, 30), st.integers(1, 8), st.integers(1, 30), st.integers(0, 2**16))
def test_of_equally_near_candidates_the_first_counts(c: int, m: int, count: int, size: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes, candidates = (torch.randint(-1, 2, (rows, 3), generator=draw).float() for rows in (c, m))
    chunks = [candidates[start : start + size] for start in range(0, m, size)]

    where, vectors = most_similar(chunks, classes, count)

    ranked = (classes @ candidates.T).sort(dim=1, descending=True, stable=True).indices[:, :count]
    assert where == sorted(set(ranked.flatten().tolist()))
    assert torch.equal(vectors, candidates[where])
