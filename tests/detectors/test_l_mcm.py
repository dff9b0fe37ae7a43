"""L-MCM against the paper's largest softmax over classes and patches."""

import math

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import assert_same_order
from tests.detectors.world import World

CLASSES = vo.Task(classes=vo.TextBank(("east", "north"), torch.eye(2)))


def test_two_patches_by_hand() -> None:
    """Cosines (1, 0) and (0.6, 0.8): softmax maxima 1 / (1 + e^-1) and 1 / (1 + e^-0.2); the first is larger."""
    images = vo.ImageFeatures(torch.tensor([[0.0, 1.0]]), torch.tensor([[[1.0, 0.0], [0.6, 0.8]]]), (1, 2))

    score = vo.create_detector("l_mcm").fit(CLASSES).score(images)

    assert score.item() == pytest.approx(-1.0)  # ln((1 - S) / S) of S = 1 / (1 + e^-1)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_keeps_the_order_of_the_largest_softmax(world: World, temperature: float) -> None:
    images = vo.ImageFeatures.concatenate([world.id_images, world.ood_images])
    assert images.patches is not None
    cosine = images.patches.double() @ world.task.classes.embeddings.double().T

    scores = vo.create_detector("l_mcm", temperature=temperature).fit(world.task).score(images)

    largest = (cosine / temperature).softmax(dim=-1).amax(dim=(1, 2))
    assert_same_order(scores, -largest)
    back = 1 / (1 + (len(world.task.classes) - 1) * scores.double().exp())
    assert torch.allclose(back, largest, rtol=1e-4)


def test_the_whole_image_plays_no_part(world: World) -> None:
    fitted = vo.create_detector("l_mcm").fit(world.task)
    other = vo.ImageFeatures(world.ood_images.pooled, world.id_images.patches, (2, 2))

    assert torch.equal(fitted.score(other), fitted.score(world.id_images))


def test_is_what_gl_mcm_tends_to_with_its_weight(world: World) -> None:
    both = vo.create_detector("gl_mcm", local_weight=1000.0).fit(world.task).score(world.ood_images)

    local = vo.create_detector("l_mcm").fit(world.task).score(world.ood_images)

    assert (both - local).abs().max() < 2e-3 * math.log(len(world.task.classes))
