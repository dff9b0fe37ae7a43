"""MSP: the odds of the largest softmax at CLIP's scale."""

import math

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import assert_same_order, auroc
from tests.detectors.world import World
from vlm_ood.detectors.msp import msp


def test_two_classes_by_hand() -> None:
    score = msp(torch.tensor([[0.03, 0.01]]), scale=100.0)

    p = math.exp(3) / (math.exp(3) + math.exp(1))
    assert score.item() == pytest.approx(math.log((1 - p) / p), rel=1e-5)


def test_keeps_the_order_of_the_largest_probability() -> None:
    cosine = 0.2 + 0.03 * torch.randn(500, 50, generator=torch.Generator().manual_seed(1))

    assert_same_order(msp(cosine, 100.0), -(100 * cosine.double()).softmax(dim=-1).amax(dim=-1))


def test_probabilities_that_round_to_one_stay_apart() -> None:
    cosine = torch.zeros(500, 20)
    cosine[:, 0] = torch.linspace(0.3, 0.9, 500)

    assert ((100 * cosine).softmax(dim=-1).amax(dim=-1) == 1).all()
    assert (msp(cosine, 100.0).diff() < 0).all()


def test_is_mcm_at_temperature_one_hundredth(world: World) -> None:
    scores = vo.create_detector("msp").fit(world.task).score(world.id_images)

    assert torch.allclose(scores, vo.create_detector("mcm", temperature=0.01).fit(world.task).score(world.id_images))


def test_auroc_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """Far below MCM's 0.798 at temperature 1, as the literature has it; the reference is plain fp64 softmax."""
    fitted = vo.create_detector("msp").fit(vo.Task(classes=imagenet))
    known, sun = clip_vectors["imagenet"], clip_vectors["sun"]

    found = auroc(fitted.score(known), fitted.score(sun))

    plain = [
        -(100 * part.pooled.double() @ imagenet.embeddings.double().T).softmax(-1).amax(-1) for part in (known, sun)
    ]
    assert found == pytest.approx(auroc(*plain), abs=1e-4)
    assert found == pytest.approx(0.699, abs=5e-4)
