"""GL-MCM against the paper's sum of two softmax maxima."""

import math

import pytest
import torch
from torch import Tensor

import vlm_ood as vo
from tests.detectors.reference import assert_same_order
from tests.detectors.world import World
from vlm_ood.detectors import gl_mcm as module
from vlm_ood.detectors.gl_mcm import gl_mcm, local_mcm


def paper(images: vo.ImageFeatures, classes: Tensor, temperature: float, local_weight: float) -> Tensor:
    """S = S_MCM + lambda S_L in fp64; higher is more in-distribution."""
    assert images.patches is not None
    whole = (images.pooled.double() @ classes.double().T / temperature).softmax(dim=-1).amax(dim=-1)
    local = (images.patches.double() @ classes.double().T / temperature).softmax(dim=-1).amax(dim=(1, 2))
    return whole + local_weight * local


def test_two_classes_by_hand() -> None:
    """S_MCM = 3/4, S_L = 9/10: the score is the log odds of their mean."""
    whole, local = -math.log(3), -math.log(9)

    score = gl_mcm(torch.tensor([whole]), torch.tensor([local]), classes=2, local_weight=1.0)

    mean = (3 / 4 + 9 / 10) / 2
    assert score.item() == pytest.approx(math.log((1 - mean) / mean), rel=1e-6)


def test_patches_equal_to_the_image_give_the_score_of_mcm(world: World) -> None:
    """The second oracle: a local map that repeats the global feature doubles S."""
    pooled = world.id_images.pooled
    images = vo.ImageFeatures(pooled, pooled.unsqueeze(1).expand(-1, 9, -1), (3, 3))

    local = vo.create_detector("gl_mcm", local_weight=2.5).fit(world.task).score(images)

    assert torch.allclose(local, vo.create_detector("mcm").fit(world.task).score(images), atol=1e-6)
    classes = world.task.classes.embeddings
    assert torch.allclose(paper(images, classes, 1.0, 1.0), 2 * paper(images, classes, 1.0, 0.0))


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("local_weight", [0.1, 1.0, 10.0])
def test_keeps_the_order_of_the_sum(world: World, temperature: float, local_weight: float) -> None:
    images = vo.ImageFeatures.concatenate([world.id_images, world.ood_images])
    detector = vo.create_detector("gl_mcm", temperature=temperature, local_weight=local_weight)

    scores = detector.fit(world.task).score(images)

    total = paper(images, world.task.classes.embeddings, temperature, local_weight)
    assert_same_order(scores, -total)
    mean = total / (1 + local_weight)
    back = 1 / (1 + (len(world.task.classes) - 1) * scores.double().exp())
    assert torch.allclose(back, mean, rtol=1e-4)


def test_a_small_weight_leaves_mcm(world: World) -> None:
    scores = vo.create_detector("gl_mcm", local_weight=1e-6).fit(world.task).score(world.ood_images)

    assert torch.allclose(scores, vo.create_detector("mcm").fit(world.task).score(world.ood_images), atol=1e-5)


def test_near_identical_images_do_not_tie_over_a_thousand_classes() -> None:
    whole = torch.linspace(-0.16, -0.15, 5000)

    scores = gl_mcm(whole, torch.full((5000,), -0.2), classes=1000, local_weight=1.0)

    assert (scores.diff() > 0).all()


def test_finds_a_class_in_one_place_that_the_whole_image_hides(world: World) -> None:
    """An image of background everywhere, and the same with a class in one patch."""
    image, classes = world.ood_images[:1], world.task.classes.embeddings
    assert image.patches is not None
    patches = image.patches.clone()
    patches[:, 2] = classes[4]
    fitted = vo.create_detector("gl_mcm").fit(world.task)

    with_class = fitted.score(vo.ImageFeatures(image.pooled, patches, (2, 2)))

    assert with_class.item() < fitted.score(image).item()


def test_a_few_images_at_a_time_give_the_same_as_all_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    patches, classes = world.id_images.patches, world.task.classes.embeddings
    assert patches is not None
    at_once = local_mcm(patches, classes, 1.0)

    monkeypatch.setattr(module, "MAX_COSINES", 100)

    assert torch.allclose(local_mcm(patches, classes, 1.0), at_once, atol=1e-7)
