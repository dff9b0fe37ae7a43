"""NECO: by hand, and in fp64. pytorch-ood 0.4 doesn't have it."""

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.neco import NECO, Space


def test_product_of_share_and_cosine_by_hand() -> None:
    """The space is the plane of the first two axes, the classes lie along the first and the third."""
    state = Space(torch.eye(3)[[0, 2]], torch.eye(3)[:2])
    images = vo.ImageFeatures(torch.tensor([[1.0, 0, 0], [0.6, 0, 0.8], [0, 1, 0], [0.48, 0.64, 0.6]]))

    # lengths in the plane 1, 0.6, 1, 0.8; largest cosines 1, 0.8, 0, 0.6
    assert NECO().score(images, state).tolist() == pytest.approx([-1, -0.48, 0, -0.48], abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_equals_the_product_in_fp64_with_the_axes_of_an_svd(share: float, world: World) -> None:
    support, images = parts_of(world.task)[2].features.pooled.double(), world.ood_images.pooled.double()
    values, axes = torch.linalg.svd(support)[1:]
    kept = next(k for k in range(1, 64) if values[:k].square().sum() >= share * values.square().sum())
    largest = (images @ world.task.classes.embeddings.double().T).max(dim=1).values

    expected = -(axes[:kept] @ images.T).norm(dim=0) / images.norm(dim=1) * largest

    found = vo.create_detector("neco", share=share).fit(world.task).score(world.ood_images)
    assert torch.allclose(found.double(), expected, atol=1e-6)


def test_an_image_outside_the_space_scores_above_one_inside_with_the_same_cosine() -> None:
    rows = torch.tensor([[0.6, 0.8, 0], [0.8, 0.6, 0]] * 2)
    task = vo.Task(
        vo.TextBank(("a",), torch.eye(3)[:1]), support=vo.Support(vo.ImageFeatures(rows), torch.zeros(4).long())
    )

    inside, outside = (
        vo.create_detector("neco").fit(task).score(vo.ImageFeatures(torch.tensor([[0.6, 0.8, 0], [0.6, 0, 0.8]])))
    )

    assert outside > inside
