"""Statistics of labelled images: by hand, and computed once."""

from dataclasses import replace

import pytest
import torch
from sklearn.covariance import OAS

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.statistics import LEAST, shrunk, statistics_of
from vlm_ood.errors import TaskError

ROWS = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
TASK = vo.Task(
    vo.TextBank(("a", "b", "c"), torch.eye(3)),
    support=vo.Support(vo.ImageFeatures(ROWS), torch.tensor([0, 0, 2])),
)


def test_means_by_hand_and_zero_for_a_class_without_images() -> None:
    found = statistics_of(TASK)

    assert found.counts.tolist() == [2, 0, 1]
    assert found.means.flatten().tolist() == pytest.approx([0.8, 0.4, 0, 0, 0, 0, 0, 0, 1], abs=1e-7)
    assert found.prototypes[0].tolist() == pytest.approx([0.8 / 0.8**0.5, 0.4 / 0.8**0.5, 0], abs=1e-7)
    assert found.prototypes[1].tolist() == [0, 0, 0]
    assert found.centre.tolist() == pytest.approx([1.6 / 3, 0.8 / 3, 1 / 3], abs=1e-7)


def test_within_is_around_the_means_of_the_classes() -> None:
    around = torch.tensor([[0.2, -0.4, 0], [-0.2, 0.4, 0], [0, 0, 0]]).double()

    assert torch.allclose(statistics_of(TASK).within, shrunk(around, 1), atol=1e-7)


def test_shrinkage_is_that_of_scikit_learn(world: World) -> None:
    images = parts_of(world.task)[2].features.pooled.double()
    centred = images - images.mean(dim=0)

    expected = torch.from_numpy(OAS().fit(images.numpy()).covariance_)

    # scikit-learn divides by s and leaves out the term that vanishes for large d
    assert torch.allclose(shrunk(centred, len(images)), expected, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("rows", [torch.zeros(4, 3), torch.eye(3) - 1 / 3], ids=["equal images", "equal variances"])
def test_covariance_of_degenerate_images_can_be_inverted(rows: torch.Tensor) -> None:
    variances = torch.linalg.eigvalsh(shrunk(rows.double(), 2))

    assert variances.isfinite().all()
    assert variances.min() >= LEAST / 2


def test_principal_axes_give_the_images_back(world: World) -> None:
    found = statistics_of(world.task)
    squares, axes = found.axes

    assert torch.allclose(found.images @ axes.T @ axes, found.images, atol=1e-6)
    assert torch.allclose((found.images @ axes.T).square().mean(dim=0), squares)
    assert torch.allclose(squares.sum(), torch.tensor(1.0).double())
    assert (squares.diff() <= 0).all()
    assert len(squares) <= len(found.images)


@pytest.mark.parametrize(("share", "kept"), [(0.1, 1), (0.59, 1), (0.61, 2), (0.91, 2), (1.0, 2)])
def test_principal_axes_hold_a_share_of_the_squares_and_one_stays_out(share: float, kept: int) -> None:
    """Six images along one axis, three along another, one along a third."""
    rows = torch.eye(3)[[0] * 6 + [1] * 3 + [2]]
    task = vo.Task(TASK.classes, support=vo.Support(vo.ImageFeatures(rows), torch.zeros(10).long()))

    found = statistics_of(task).principal(share)

    assert found.abs().tolist() == torch.eye(3)[:kept].tolist()


def test_equal_images_have_one_principal_axis() -> None:
    support = vo.Support(vo.ImageFeatures(torch.tensor([[0.0, 3, 4]] * 5)), torch.zeros(5).long())

    found = statistics_of(replace(TASK, support=support)).principal(0.5)

    assert found.abs().flatten().tolist() == pytest.approx([0, 0.6, 0.8], abs=1e-6)


def test_computed_once_for_the_same_images(world: World) -> None:
    same = replace(world.task, negatives=None)

    assert statistics_of(world.task) is statistics_of(same)
    assert statistics_of(world.task).within is statistics_of(same).within


def test_other_images_have_their_own() -> None:
    support = vo.Support(vo.ImageFeatures(ROWS.flip(0)), torch.tensor([0, 0, 2]))

    assert statistics_of(replace(TASK, support=support)) is not statistics_of(TASK)


def test_too_few_images_of_a_class_are_refused_with_a_remedy() -> None:
    class Wants(vo.detectors.registry.get("mcm")):  # type: ignore[misc]
        min_images_per_class = 2

    with pytest.raises(TaskError, match=r"at least 2 labelled images per class, and 2 of 3 .* b \(0\), c \(1\)"):
        Wants().fit(TASK)
