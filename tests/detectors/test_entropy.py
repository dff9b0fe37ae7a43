"""The entropy of the softmax, in logarithms."""

import math

import pytest
import torch
from scipy.special import entr

from tests.detectors.reference import assert_same_order
from vlm_ood.detectors.entropy import entropy


def test_two_classes_by_hand() -> None:
    score = entropy(torch.tensor([[0.03, 0.01]]), scale=100.0)

    p = math.exp(3) / (math.exp(3) + math.exp(1))
    h = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert score.item() == pytest.approx(math.log(h / math.log(2)), rel=1e-5)


@pytest.mark.parametrize("c", [2, 10, 1000])
def test_equal_cosines_give_zero(c: int) -> None:
    assert entropy(torch.full((1, c), 0.25), scale=100.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0, 1000.0])
def test_equals_the_entropy_in_fp64(scale: float) -> None:
    cosine = 0.2 + 0.03 * torch.randn(500, 50, generator=torch.Generator().manual_seed(2))

    h = torch.from_numpy(entr((scale * cosine.double()).softmax(dim=-1).numpy())).sum(dim=-1)
    scores = entropy(cosine, scale)

    assert torch.allclose(scores.double(), (h / math.log(50)).log(), rtol=1e-3, atol=1e-9)
    assert_same_order(scores, h)


def test_unsure_answers_stay_apart() -> None:
    cosine = torch.zeros(1000, 1000)
    cosine[:, 0] = torch.linspace(0.2, 0.3, 1000)

    assert (entropy(cosine, scale=1.0).diff() < 0).all()


def test_sure_answers_stay_apart() -> None:
    cosine = torch.zeros(1000, 10)
    cosine[:, 0] = torch.linspace(0.4, 0.9, 1000)

    assert (entropy(cosine, scale=100.0).diff() < 0).all()


def test_both_forms_meet_where_one_takes_over() -> None:
    """The belief in one of two classes goes from even to sure through half of the largest entropy."""
    cosine = torch.zeros(2000, 2)
    cosine[:, 0] = torch.linspace(0, 0.1, 2000)

    scores = entropy(cosine, scale=100.0)

    assert scores.diff().max() < 1e-6
    assert scores.diff().abs().max() < 0.006
