"""MCM against the paper's equation; images do not tie."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import vlm_ood as vo
from tests.detectors.reference import assert_same_order, auroc
from vlm_ood.detectors.mcm import mcm


def distinct(scores: Tensor) -> int:
    return len(set(scores.tolist()))


def test_two_classes_by_hand() -> None:
    scores = mcm(torch.tensor([[0.5, 0.2], [0.1, 0.4]]), temperature=0.1)

    assert scores.tolist() == pytest.approx([-3.0, -3.0])  # ln exp((0.2 - 0.5) / 0.1)


def test_three_classes_by_hand() -> None:
    score = mcm(torch.tensor([[math.log(4), math.log(2), math.log(1)]]), temperature=1.0)

    largest_softmax = 4 / 7
    assert score.item() == pytest.approx(math.log((1 - largest_softmax) / largest_softmax / 2))


@pytest.mark.parametrize("c", [2, 10, 1000])
def test_equal_cosines_give_zero_for_any_number_of_classes(c: int) -> None:
    assert mcm(torch.full((1, c), 0.25), temperature=1.0).item() == 0


@settings(deadline=None, max_examples=30)
@given(shift=st.floats(-0.5, 0.5), temperature=st.floats(0.01, 10))
def test_adding_a_constant_to_all_cosines_changes_nothing(shift: float, temperature: float) -> None:
    cosine = torch.linspace(-0.4, 0.4, 30).reshape(3, 10)

    assert torch.allclose(mcm(cosine + shift, temperature), mcm(cosine, temperature), atol=1e-6 / temperature)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
def test_keeps_the_order_of_the_largest_softmax(temperature: float) -> None:
    cosine = 0.2 + 0.04 * torch.randn(500, 100, generator=torch.Generator().manual_seed(0))

    largest = (cosine.double() / temperature).softmax(dim=-1).amax(dim=-1)

    assert_same_order(mcm(cosine, temperature), -largest)
    back = 1 / (1 + 99 * mcm(cosine, temperature).double().exp())
    assert torch.allclose(back, largest, rtol=1e-4)


def test_twenty_thousand_near_identical_images_do_not_tie_over_a_thousand_classes() -> None:
    cosine = 0.2 + 0.02 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    rows = cosine.repeat(20_000, 1)
    rows[:, 7] = 0.3 + 1e-6 * torch.arange(20_000)

    scores = mcm(rows, temperature=1.0)

    assert (scores.diff() < 0).all()
    assert distinct(rows.bfloat16().softmax(dim=-1).amax(dim=-1)) < 100  # what it would be without care


def test_sure_images_do_not_tie_at_the_scale_of_clip() -> None:
    rows = torch.zeros(1000, 10)
    rows[:, 3] = 0.5 + 1e-5 * torch.arange(1000)

    assert distinct((100 * rows).softmax(dim=-1).amax(dim=-1)) == 1
    assert (mcm(rows, temperature=0.01).diff() < 0).all()


def test_figures_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """AUROC of shared/data/README.md."""
    fitted = vo.create_detector("mcm").fit(vo.Task(classes=imagenet))
    known, sun, cars = (fitted.score(clip_vectors[part]) for part in ("imagenet", "sun", "cars"))

    assert auroc(known, sun) == pytest.approx(0.798, abs=5e-4)
    assert auroc(known, cars) == pytest.approx(0.670, abs=5e-4)
    assert distinct(torch.cat([known, sun, cars])) > 0.999 * 7605
