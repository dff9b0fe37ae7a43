"""WDiscOOD: by hand, and in fp64 as linear discriminant analysis solves it. pytorch-ood 0.4 doesn't have it."""

from dataclasses import replace

import pytest
import torch
from scipy.linalg import eigh

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.detectors.wdiscood import Discriminants, WDiscOOD, inverse_root
from vlm_ood.errors import TaskError


def test_both_distances_by_hand() -> None:
    """Whitening doubles the third axis, and m is (0, 0, 1) then; the discriminative space is the first axis."""
    state = Discriminants(
        whiten=torch.diag(torch.tensor([1.0, 1, 2])),
        centre=torch.tensor([0.0, 0, 1]),
        axes=torch.eye(3)[:1],
        means=torch.tensor([[-0.5], [0.5]]),
    )
    images = vo.ImageFeatures(torch.tensor([[1.0, 0, 0], [0, 1, 0], [-0.6, 0, 0.8]]))

    # z - m = (1, 0, -1), (0, 1, -1), (-0.6, 0, 0.6)
    inside, outside = [0.5, 0.5, 0.1], [1, 2**0.5, 0.6]

    for weight in (0.0, 1.0, 3.0):
        expected = [near + weight * far for near, far in zip(inside, outside, strict=True)]
        assert WDiscOOD(weight=weight).score(images, state).tolist() == pytest.approx(expected, abs=1e-6)


def test_inverse_root_by_hand() -> None:
    """[[5, 4], [4, 5]] has the variance 9 along (1, 1) and 1 along (1, -1)."""
    found = inverse_root(torch.tensor([[5.0, 4], [4, 5]]).double())

    assert found.flatten().tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3, 2 / 3])


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_equals_linear_discriminant_analysis_in_fp64(share: float, world: World) -> None:
    """Discriminants u solve B u = v W u; whitened, they are W^(1/2) u and orthogonal."""
    known = statistics_of(world.task)
    within, means = known.within.numpy(), known.means.numpy()
    around = means - means.mean(axis=0)
    ratios, directions = eigh(around.T @ around, within)
    kept = 1
    while ratios[-kept:].sum() < share * ratios.sum():
        kept += 1
    directions = directions[:, -kept:]  # u^T W u is the identity
    images = world.ood_images.pooled.double().numpy()

    expected = []
    for image in images:
        inside = min(float((((image - mean) @ directions) ** 2).sum()) for mean in means) ** 0.5
        centred = image - means.mean(axis=0)
        whole = float(centred @ torch.linalg.inv(known.within).numpy() @ centred)
        expected.append(inside + 2 * (whole - float(((centred @ directions) ** 2).sum())) ** 0.5)

    found = vo.create_detector("wdiscood", share=share, weight=2.0).fit(world.task).score(world.ood_images)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_one_image_of_a_class_is_refused_with_a_remedy(world: World) -> None:
    support = parts_of(world.task)[2]
    kept = torch.cat([(support.labels != 0).nonzero().flatten(), torch.tensor([0])])
    few = replace(world.task, support=vo.Support(support.features[kept], support.labels[kept]))

    with pytest.raises(TaskError, match=r"wdiscood needs at least 2 labelled images per class.*class 0 \(1\).*add"):
        vo.create_detector("wdiscood").fit(few)


def test_equal_labelled_images_leave_finite_scores(world: World) -> None:
    support = parts_of(world.task)[2]
    same = replace(support, features=support.features[[0] * len(support.labels)])

    assert vo.create_detector("wdiscood").fit(replace(world.task, support=same)).score(world.id_images).isfinite().all()
