"""NECO: by hand, and in fp64. pytorch-ood 0.4 doesn't have it."""

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.neco import NECO, Space


def test_product_of_share_and_cosine_by_hand() -> None:
    """The space is the plane of the first two axes, the classes lie along the first and the third."""
    state = Space(torch.eye(3)[[0, 2]], torch.eye(3)[:2])
    images = torch.tensor([[1.0, 0, 0], [0.6, 0, 0.8], [0, 1, 0], [0.48, 0.64, 0.6], [-0.6, 0.64, -0.48]])

    # lengths in the plane 1, 0.6, 1, 0.8 and the root of 0.6^2 + 0.64^2; largest cosines 1, 0.8, 0, 0.6, -0.48
    expected = [-1, -0.48, 0, -0.48, 0.48 * (2 - 0.7696**0.5)]
    assert NECO().score(vo.ImageFeatures(images), state).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_equals_the_product_in_fp64_with_the_axes_of_an_svd(share: float, world: World) -> None:
    support, images = parts_of(world.task)[2].features.pooled.double(), world.ood_images.pooled.double()
    values, axes = torch.linalg.svd(support)[1:]
    kept = next(k for k in range(1, 64) if values[:k].square().sum() >= share * values.square().sum())
    largest = (images @ world.task.classes.embeddings.double().T).max(dim=1).values

    inside = (axes[:kept] @ images.T).norm(dim=0) / images.norm(dim=1)
    expected = [-c * p if c > 0 else -c * (2 - p) for c, p in zip(largest.tolist(), inside.tolist(), strict=True)]

    found = vo.create_detector("neco", share=share).fit(world.task).score(world.ood_images)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_image_outside_the_space_scores_above_one_inside_with_the_same_cosine(sign: int) -> None:
    rows = torch.tensor([[0.6, 0.8, 0], [0.8, 0.6, 0]] * 2)
    classes = vo.TextBank(("a",), sign * torch.eye(3)[:1])
    task = vo.Task(classes, support=vo.Support(vo.ImageFeatures(rows), torch.zeros(4).long()))

    scores = vo.create_detector("neco").fit(task).score(vo.ImageFeatures(torch.tensor([[0.6, 0.8, 0], [0.6, 0, 0.8]])))

    assert scores[1] > scores[0]
