"""Virtual-logit matching: by hand, in fp64, and against pytorch-ood."""

import math
from dataclasses import replace

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import assert_same_order
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.detectors.vim import Matched, ViM, expected_residual, largest_cosine


def test_energy_and_residual_by_hand() -> None:
    """Classes along the first two axes, the principal space is the first axis."""
    state = Matched(torch.eye(3)[:2], torch.eye(3)[:1], alpha=0.5)

    found = ViM(scale=2.0).score(vo.ImageFeatures(torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8]])), state)

    nearest = -math.log(math.exp(2.0) + math.exp(0.0)) / 2
    between = -math.log(math.exp(0.0) + math.exp(1.2)) / 2
    assert found.tolist() == pytest.approx([nearest, between + 0.5], abs=1e-6)


def test_mean_of_the_largest_cosines_by_hand() -> None:
    images = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1]]).double().repeat(1000, 1)

    assert largest_cosine(images, torch.eye(3)[:2]) == pytest.approx((1 + 0.8 + 0) / 3)


def test_expected_residual_is_that_of_images_with_the_mean_and_the_covariance(world: World) -> None:
    known = statistics_of(world.task)
    axes = known.principal(0.9)
    normal = torch.distributions.MultivariateNormal(known.centre, known.total)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = normal.sample((20_000,))

    outside = drawn - drawn @ axes.T @ axes

    assert expected_residual(known, axes) == pytest.approx(float(outside.square().sum(dim=1).mean().sqrt()), rel=0.01)


def test_virtual_logit_of_new_images_is_matched_to_the_largest_logit(world: World) -> None:
    """On labelled images it is smaller, as they made the space; on new ones it is about as large."""
    state = vo.create_detector("vim").fit(world.task).state
    classes = world.task.classes.embeddings

    def ratio(images: torch.Tensor) -> float:
        outside = images - images @ state.axes.T @ state.axes
        return float((images @ classes.T).amax(dim=1).mean() / outside.norm(dim=1).mean() / state.alpha)

    assert ratio(world.id_images.pooled) == pytest.approx(1, abs=0.1)
    assert ratio(parts_of(world.task)[2].features.pooled) > 1.2


def test_equals_the_sum_in_fp64(world: World) -> None:
    fitted = vo.create_detector("vim").fit(world.task)
    support, images = parts_of(world.task)[2].features.pooled.double(), world.ood_images.pooled.double()
    values, axes = torch.linalg.svd(support)[1:]
    kept = next(k for k in range(1, 64) if values[:k].square().sum() >= 0.9 * values.square().sum())
    cosine = images @ world.task.classes.embeddings.double().T

    expected = -(100 * cosine).logsumexp(dim=1) / 100 + fitted.state.alpha * (axes[kept:] @ images.T).norm(dim=0)

    assert torch.allclose(fitted.score(world.ood_images).double(), expected, atol=1e-5)


@pytest.mark.parametrize("images", ["id_images", "ood_images"])
def test_ranks_like_pytorch_ood_with_the_same_alpha(world: World, images: str) -> None:
    reference = pytest.importorskip("pytorch_ood.detector")
    fitted = vo.create_detector("vim").fit(world.task)
    support, asked = parts_of(world.task)[2], getattr(world, images)
    other = reference.ViM(None, len(fitted.state.axes), 100 * world.task.classes.embeddings, torch.zeros(6))
    other.fit_features(support.features.pooled, support.labels)

    own_images = other.alpha
    other.alpha = 100 * fitted.state.alpha

    assert own_images > 1.2 * other.alpha  # matched on the images that made the space
    assert_same_order(fitted.score(asked), other.predict_features(asked.pooled))


def test_a_larger_share_leaves_less_outside(world: World) -> None:
    narrow, wide = (vo.create_detector("vim", share=share).fit(world.task).state for share in (0.5, 0.95))

    assert len(narrow.axes) < len(wide.axes)
    assert narrow.alpha < wide.alpha


@pytest.mark.parametrize("name", ["residual", "vim", "neco"])
def test_equal_labelled_images_leave_finite_scores(name: str, world: World) -> None:
    support = parts_of(world.task)[2]
    same = replace(support, features=support.features[[0] * len(support.labels)])

    assert vo.create_detector(name).fit(replace(world.task, support=same)).score(world.ood_images).isfinite().all()
