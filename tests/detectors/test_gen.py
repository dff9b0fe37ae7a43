"""The generalised entropy."""

import math

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World
from vlm_ood.detectors.gen import gen


def test_two_classes_by_hand() -> None:
    score = gen(torch.tensor([[0.03, 0.01]]), scale=100.0, gamma=0.1, top=100)

    p = math.exp(3) / (math.exp(3) + math.exp(1))
    assert score.item() == pytest.approx(2 * (p * (1 - p)) ** 0.1, rel=1e-5)


@pytest.mark.parametrize("top", [1, 5, 30])
def test_equals_the_sum_in_fp64_over_the_most_probable(top: int) -> None:
    cosine = 0.2 + 0.03 * torch.randn(100, 30, generator=torch.Generator().manual_seed(7))

    p = (100 * cosine.double()).softmax(dim=-1).topk(top, dim=-1).values
    expected = (p * (1 - p)).pow(0.1).sum(dim=-1)

    assert torch.allclose(gen(cosine, 100.0, 0.1, top).double(), expected, rtol=1e-4)


def test_gamma_one_over_all_classes_is_the_gini_index() -> None:
    cosine = 0.2 + 0.03 * torch.randn(100, 30, generator=torch.Generator().manual_seed(8))

    p = (100 * cosine.double()).softmax(dim=-1)

    assert torch.allclose(gen(cosine, 100.0, 1.0, 30).double(), 1 - p.square().sum(dim=-1), rtol=1e-4)


def test_sure_answers_stay_apart() -> None:
    cosine = torch.zeros(300, 10)
    cosine[:, 0] = torch.linspace(0.3, 0.8, 300)

    assert (gen(cosine, scale=100.0, gamma=0.1, top=100).diff() < 0).all()


def test_more_classes_asked_for_than_there_are_means_all(world: World) -> None:
    few, many = (vo.create_detector("gen", top=top).fit(world.task).score(world.id_images) for top in (6, 5000))

    assert torch.equal(few, many)
