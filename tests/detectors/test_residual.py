"""The residual: by hand, in fp64, and against pytorch-ood."""

from dataclasses import replace

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import assert_same_order
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.residual import residual
from vlm_ood.errors import TaskError

CLASSES = vo.TextBank(("a", "b"), torch.eye(3)[:2])


def test_length_outside_a_plane_by_hand() -> None:
    plane = torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8]])

    # (0, 0.8, -0.6) is orthogonal to both axes; (0, 1, 0) has 0.6 along the second, which leaves 0.8
    images = torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8], [0, 0.8, -0.6], [0, 1, 0], [0.6, 0, 0.8]])

    assert residual(images, plane).tolist() == pytest.approx([0, 0, 1, 0.8, 0.48], abs=1e-6)


@pytest.mark.parametrize(("share", "expected"), [(0.5, [1, 1, 0]), (0.7, [1, 0, 0]), (0.99, [1, 0, 0])])
def test_share_chooses_the_axes_by_hand(share: float, expected: list[float]) -> None:
    """Six images along the third axis, three along the second, one along the first, which always stays out."""
    rows = torch.eye(3)[[2] * 6 + [1] * 3 + [0]]
    task = vo.Task(CLASSES, support=vo.Support(vo.ImageFeatures(rows), torch.zeros(10).long()))

    scores = vo.create_detector("residual", share=share).fit(task).score(vo.ImageFeatures(torch.eye(3)))

    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_equals_the_error_of_a_truncated_svd_in_fp64(world: World) -> None:
    support, images = parts_of(world.task)[2].features.pooled.double(), world.ood_images.pooled.double()
    values, axes = torch.linalg.svd(support)[1:]
    kept = next(k for k in range(1, 64) if values[:k].square().sum() >= 0.9 * values.square().sum())

    expected = (axes[kept:] @ images.T).norm(dim=0)

    found = vo.create_detector("residual").fit(world.task).score(world.ood_images)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_ranks_like_the_residual_of_pytorch_ood(world: World) -> None:
    """Without classes' logits its ViM is the residual alone."""
    reference = pytest.importorskip("pytorch_ood.detector")
    support, images = parts_of(world.task)[2].features.pooled, world.ood_images.pooled
    values = torch.linalg.svdvals(support.double()).square()
    kept = int((values.cumsum(0) < 0.9 * values.sum()).sum()) + 1
    no_logits = torch.full((1, 64), 1e-6), torch.zeros(1)
    other = reference.ViM(None, kept, *no_logits).fit_features(support, torch.zeros(len(support)))
    other.alpha = 1.0

    found = vo.create_detector("residual").fit(world.task).score(world.ood_images)

    assert_same_order(found, other.predict_features(images))


@pytest.mark.parametrize("name", ["residual", "vim", "neco"])
def test_a_single_labelled_image_is_refused_with_a_remedy(name: str, world: World) -> None:
    support = parts_of(world.task)[2]
    one = replace(world.task, support=vo.Support(support.features[:1], support.labels[:1]))

    with pytest.raises(TaskError, match=rf"{name} needs at least 2 labelled images, got 1: add images"):
        vo.create_detector(name).fit(one)


@pytest.mark.parametrize("name", ["residual", "vim", "neco"])
def test_classes_without_images_are_no_hindrance(name: str, world: World) -> None:
    support = parts_of(world.task)[2]
    few = replace(world.task, support=vo.Support(support.features[:3], support.labels[:3]))

    assert vo.create_detector(name).fit(few).score(world.ood_images).isfinite().all()
