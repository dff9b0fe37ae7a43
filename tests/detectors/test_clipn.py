import math
from typing import Any

import pytest
import torch
from torch import Tensor

import vlm_ood as vo
from vlm_ood.detectors import FittedDetector
from vlm_ood.detectors.clipn import agreeing_to_differ, competing_to_win, joint_log_probabilities
from vlm_ood.errors import ParameterError, TaskError

YES = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
NO = torch.tensor([[1.0, 3.0]], dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def fit(rule: str, no: Tensor, scale: float = 100.0) -> FittedDetector[Any]:
    names = ("cat", "dog")
    task = vo.Task(classes=vo.TextBank(names, torch.eye(3)[:2]), no=vo.TextBank(names, no))
    return vo.create_detector("clipn", rule=rule, scale=scale).fit(task)


def test_competing_to_win_by_hand() -> None:
    score = competing_to_win(YES, NO)
    assert score.shape == (1,)
    assert score.item() == pytest.approx(-1)  # class 0 is nearest: its no has 1, its yes 2
    assert 1 - sigmoid(score.item()) == pytest.approx(math.exp(2) / (math.exp(2) + math.exp(1)))


def test_agreeing_to_differ_by_hand() -> None:
    q = sigmoid(1), sigmoid(-1)
    p_yes = sigmoid(2 - 1), sigmoid(1 - 3)
    belongs = q[0] * p_yes[0] + q[1] * p_yes[1]
    score = agreeing_to_differ(YES, NO)
    assert score.shape == (1,)
    assert sigmoid(score.item()) == pytest.approx(1 - belongs, abs=1e-12)


def test_the_classes_and_the_extra_class_share_all_probability() -> None:
    logits = torch.randn(2, 50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    belongs, differs = joint_log_probabilities(logits[0], logits[1])
    torch.testing.assert_close(belongs.exp().sum(-1) + differs.exp().sum(-1), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("rule", ["ctw", "atd"])
def test_a_no_tower_that_repeats_the_yes_tower_leaves_everything_at_one_half(rule: str) -> None:
    fitted = fit(rule, torch.eye(3)[:2])
    images = vo.ImageFeatures(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(fitted.score(images).sigmoid(), torch.full((5,), 0.5))


@pytest.mark.parametrize("rule", ["ctw", "atd"])
def test_rules_agree_where_one_class_has_all_probability(rule: str) -> None:
    images = vo.ImageFeatures(torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.0, 0.436]]))
    fitted = fit(rule, torch.tensor([[0.9, 0.0, 0.436], [0.0, 1.0, 0.0]]))
    decided = fitted.decide(images)
    assert decided is not None
    assert decided.tolist() == [False, True]
    assert (fitted.score(images) > 0).tolist() == [False, True]


def test_the_atd_rule_compares_the_extra_class_with_each_class_not_with_their_sum() -> None:
    """Two equal classes with p_yes = 0.6: the extra class has 0.4, each class 0.3, so it wins though 0.6 belongs."""
    no = torch.tensor([[1.0, 0.0, -math.log(1.5)], [0.0, 1.0, -math.log(1.5)]])
    no = no / no.norm(dim=1, keepdim=True)
    images = vo.ImageFeatures(torch.tensor([[1.0, 1.0, 0.0]]))
    scale = math.log(1.5) / (images.pooled @ (torch.eye(3)[:2] - no).T)[0, 0].item()
    fitted = fit("atd", no, scale)
    decided = fitted.decide(images)
    assert fitted.score(images).sigmoid().item() == pytest.approx(0.4, abs=1e-6)
    assert decided is not None
    assert decided.tolist() == [True]


@pytest.mark.parametrize("rule", ["ctw", "atd"])
def test_scores_don_t_tie_where_probabilities_would_round_to_one(rule: str) -> None:
    fitted = fit(rule, -torch.eye(3)[:2], scale=1000.0)
    angle = torch.linspace(0, 0.5, 100)
    scores = fitted.score(vo.ImageFeatures(torch.stack([angle.cos(), 0 * angle, angle.sin()], dim=1)))
    assert scores.isfinite().all()
    assert len(set(scores.tolist())) == 100
    assert torch.equal(scores, scores.sort().values)


@pytest.mark.parametrize("rule", ["ctw", "atd"])
def test_one_class_is_enough(rule: str) -> None:
    bank = vo.TextBank(("cat",), torch.tensor([[1.0, 0.0]]))
    task = vo.Task(classes=bank, no=vo.TextBank(("cat",), torch.tensor([[0.0, 1.0]])))
    fitted = vo.create_detector("clipn", rule=rule, scale=2.0).fit(task)
    scores = fitted.score(vo.ImageFeatures(torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
    torch.testing.assert_close(scores, torch.tensor([-2.0, 2.0]))


def test_the_no_that_speaks_loudest_is_named_with_its_share() -> None:
    fitted = fit("atd", torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    [[(name, share), *_]] = fitted.pulled_out_by(vo.ImageFeatures(torch.tensor([[0.6, 0.0, 0.8]])), top=2)
    assert name == "no cat"
    assert share == pytest.approx(1.0, abs=1e-6)


def test_a_task_without_no_texts_says_what_is_missing() -> None:
    with pytest.raises(TaskError, match="no"):
        vo.create_detector("clipn").fit(vo.Task(classes=vo.TextBank(("cat", "dog"), torch.eye(2))))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ParameterError, match="rule"):
        vo.create_detector("clipn", rule="both")
