"""The gap between the nearest class and the next ones."""

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import assert_same_order
from vlm_ood.detectors.logit_gap import logit_gap
from vlm_ood.detectors.margin import margin
from vlm_ood.detectors.mcm import mcm


def test_three_nearest_of_four_by_hand() -> None:
    score = logit_gap(torch.tensor([[0.1, 0.4, 0.2, -0.9]]), nearest=3)

    assert score.item() == pytest.approx(-((0.4 - 0.2) + (0.4 - 0.1)) / 2)


def test_two_nearest_is_the_margin() -> None:
    cosine = torch.randn(20, 9, generator=torch.Generator().manual_seed(4)).tanh()

    assert torch.equal(logit_gap(cosine, nearest=2), margin(cosine))


def test_all_classes_is_the_limit_of_mcm_at_a_high_temperature() -> None:
    cosine = 0.2 + 0.03 * torch.randn(200, 30, generator=torch.Generator().manual_seed(5))

    assert_same_order(logit_gap(cosine, nearest=30), 100 * mcm(cosine, temperature=100.0), tolerance=1e-2)


@pytest.mark.parametrize(("classes", "nearest"), [(2, 2), (5, 2), (11, 3), (100, 20)])
def test_keep_is_a_share_rounded_up_and_never_below_two(classes: int, nearest: int) -> None:
    cosine = torch.rand(4, classes, generator=torch.Generator().manual_seed(6))
    bank = vo.TextBank(tuple(map(str, range(classes))), torch.eye(classes))

    scores = vo.create_detector("logit_gap").fit(vo.Task(classes=bank)).score(vo.ImageFeatures(cosine))

    unit = cosine / cosine.norm(dim=-1, keepdim=True)
    assert torch.allclose(scores, logit_gap(unit, nearest), atol=1e-6)
