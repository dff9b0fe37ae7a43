"""Mahalanobis distance: by hand, in fp64, and against pytorch-ood."""

from dataclasses import replace

import pytest
import torch
from scipy.spatial.distance import mahalanobis as between
from torch import Tensor

import vlm_ood as vo
from tests.detectors.reference import auroc
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.mahalanobis import Gaussians
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.errors import TaskError


def scores(world: World, images: vo.ImageFeatures, *, relative: bool = False) -> Tensor:
    return vo.create_detector("mahalanobis", relative=relative).fit(world.task).score(images)


def test_two_means_by_hand() -> None:
    means, covariance = torch.tensor([[1.0, 0], [0, 2]]).double(), torch.tensor([[4.0, 0], [0, 0.25]]).double()

    found = Gaussians.of(means, covariance, torch.tensor([0.5, 1.0]).double(), torch.zeros(1))

    # (1, 1): 0 / 4 + 1 / 0.25 to the first, 1 / 4 + 1 / 0.25 to the second; (2, 2): 1 / 4 + 4 / 0.25 and 4 / 4 + 0
    assert found.nearest(torch.tensor([[1.0, 1], [2, 2], [1, 0]])).tolist() == pytest.approx([4, 1, 0], abs=1e-5)


def test_correlated_axes_by_hand() -> None:
    """The inverse of [[2, 1], [1, 1]] is [[1, -1], [-1, 2]]."""
    covariance = torch.tensor([[2.0, 1], [1, 1]]).double()

    found = Gaussians.of(torch.zeros(1, 2).double(), covariance, torch.zeros(2).double(), torch.zeros(1))

    # (a, b) has a^2 - 2ab + 2b^2
    assert found.nearest(torch.tensor([[1.0, 0], [0, 1], [1, 1], [3, -1]])).tolist() == pytest.approx([1, 2, 1, 17])


def test_equals_the_distances_of_scipy_in_fp64(world: World) -> None:
    known = statistics_of(world.task)
    inverse = torch.linalg.inv(known.within).numpy()
    images = world.ood_images[:20]

    expected = [
        min(between(image.double().numpy(), mean.numpy(), inverse) ** 2 for mean in known.means)
        for image in images.pooled
    ]

    assert scores(world, images).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shots", [48, 33], ids=["classes of one size", "of several"])
def test_relative_takes_away_the_distance_to_all_images(shots: int, world: World) -> None:
    """The covariance of all is that within classes and that of their means, each image counting once."""
    support = parts_of(world.task)[2]
    task = replace(world.task, support=vo.Support(support.features[:shots], support.labels[:shots]))
    known, images = statistics_of(task), world.id_images
    total = known.within + torch.cov(known.means[known.labels].T, correction=0)
    around = images.pooled.double() - known.images.mean(dim=0)

    expected = torch.einsum("nd,de,ne->n", around, torch.linalg.inv(total), around)

    plain, relative = (vo.create_detector("mahalanobis", relative=on).fit(task).score(images) for on in (False, True))
    assert torch.allclose((plain - relative).double(), expected, rtol=1e-3, atol=1e-3)


def test_relative_separates_too(world: World) -> None:
    assert auroc(scores(world, world.id_images, relative=True), scores(world, world.ood_images, relative=True)) > 0.95


@pytest.mark.parametrize(("relative", "other"), [(False, "Mahalanobis"), (True, "RMD")])
def test_ranks_like_pytorch_ood_where_images_are_many(relative: bool, other: str) -> None:
    """It doesn't shrink, and divides by no count: with many images neither changes an order."""
    reference = pytest.importorskip("pytorch_ood.detector")
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(6000) % 3
    mixing = torch.randn(8, 8, generator=draw)
    centres = 4 * torch.randn(3, 8, generator=draw)
    support = vo.ImageFeatures(centres[labels] + torch.randn(6000, 8, generator=draw) @ mixing)
    images = vo.ImageFeatures(torch.randn(200, 8, generator=draw))
    task = vo.Task(vo.TextBank(("a", "b", "c"), centres), support=vo.Support(support, labels))

    found = vo.create_detector("mahalanobis", relative=relative).fit(task).score(images)

    expected = getattr(reference, other)(None).fit_features(support.pooled, labels).predict_features(images.pooled)
    assert torch.corrcoef(torch.stack([found.argsort().argsort(), expected.argsort().argsort()]))[0, 1] > 0.999


def test_one_image_of_a_class_is_refused_with_a_remedy(world: World) -> None:
    support = parts_of(world.task)[2]
    kept = torch.cat([(support.labels != 0).nonzero().flatten(), torch.tensor([0])])
    few = replace(world.task, support=vo.Support(support.features[kept], support.labels[kept]))

    with pytest.raises(TaskError, match=r"mahalanobis needs at least 2 labelled images per class.*class 0 \(1\).*add"):
        vo.create_detector("mahalanobis").fit(few)


def test_equal_images_of_a_class_leave_finite_scores(world: World) -> None:
    support = parts_of(world.task)[2]
    first = [int((support.labels == label).nonzero()[0]) for label in support.labels]
    same = replace(world.task, support=replace(support, features=support.features[first]))

    assert vo.create_detector("mahalanobis").fit(same).score(world.ood_images).isfinite().all()
