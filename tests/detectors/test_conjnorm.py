"""Density from a norm: by hand, and from the definition of a Bregman divergence."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import vlm_ood as vo
from tests.detectors.reference import auroc
from tests.detectors.world import World, parts_of
from vlm_ood.detectors import conjnorm
from vlm_ood.errors import TaskError

TWO = vo.TextBank(("a", "b"), torch.eye(3)[1:])
ONE_EACH = vo.Support(vo.ImageFeatures(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])), torch.tensor([0, 1]))


def score(task: vo.Task, images: Tensor, **parameters: float) -> list[float]:
    fitted = vo.create_detector("conjnorm", **parameters).fit(task)
    return fitted.score(vo.ImageFeatures(images)).tolist()


def phi(vector: Tensor, q: float) -> Tensor:
    return vector.abs().pow(q).sum().pow(2 / q) / 2


def by_definition(task: vo.Task, image: Tensor, p: float, scale: float, names: float) -> float:
    q = p / (p - 1)
    _, _, support = parts_of(task)
    images = support.features.pooled.double()

    def at_one(vector: Tensor) -> Tensor:
        return vector / vector.abs().pow(p).sum().pow(1 / p)

    def divergence(vector: Tensor, mean: Tensor) -> Tensor:
        z, inner = at_one(vector), mean.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(phi(inner, q), inner)
        return phi(z, q) - phi(mean, q) - (z - mean) @ gradient

    density = torch.tensor(0.0).double()
    for k, name in enumerate(task.classes.embeddings.double()):
        mean = at_one(images[support.labels == k].sum(dim=0) + names * name)
        normaliser = torch.stack([(-scale * divergence(each, mean)).exp() for each in images]).mean()
        density += (-scale * divergence(image, mean)).exp() / normaliser / len(task.classes)
    return -math.log(density)


def test_gaussians_by_hand() -> None:
    # divergences are half the squared distances: 0.4 and 0.2 of the image, 0 and 1 of the labelled images
    normaliser = (1 + math.exp(-1)) / 2
    density = (math.exp(-0.4) + math.exp(-0.2)) / 2 / normaliser

    found = score(vo.Task(TWO, support=ONE_EACH), torch.tensor([[0.6, 0.8, 0]]), scale=1.0, names=0.0)

    assert found == [pytest.approx(-math.log(density))]


def test_a_name_counts_as_so_many_images() -> None:
    task = vo.Task(TWO, support=ONE_EACH)
    as_images = torch.cat([ONE_EACH.features.pooled, TWO.embeddings])
    means = vo.Support(vo.ImageFeatures(as_images.view(2, 2, 3).sum(dim=0)), torch.tensor([0, 1]))
    image = torch.tensor([[0.6, 0.8, 0]])

    # one name and one image have the mean that the image between them has alone; only the normaliser differs
    mixed = vo.create_detector("conjnorm", names=1.0, scale=3.0).fit(task)
    between = vo.create_detector("conjnorm", names=0.0, scale=3.0).fit(replace(task, support=means))

    assert torch.allclose(mixed.state.gradients, between.state.gradients)
    assert mixed.score(vo.ImageFeatures(image)).isfinite().all()


@pytest.mark.parametrize(("p", "scale", "names"), [(2.0, 50.0, 4.0), (1.5, 10.0, 1.0), (3.0, 2.0, 0.0)])
def test_scores_follow_the_definition(p: float, scale: float, names: float, world: World) -> None:
    images = torch.cat([world.id_images.pooled[:5], world.ood_images.pooled[:5]])

    expected = [by_definition(world.task, image, p, scale, names) for image in images.double()]

    assert score(world.task, images, p=p, scale=scale, names=names) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_images_in_chunks_have_the_same_normaliser(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score(world.task, world.id_images.pooled)
    monkeypatch.setattr(conjnorm, "CHUNK", 7)

    assert score(world.task, world.id_images.pooled) == pytest.approx(whole)


def test_images_of_a_class_that_cancel_each_other_leave_finite_scores() -> None:
    opposite = vo.ImageFeatures(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0]]))
    task = vo.Task(TWO, support=vo.Support(opposite, torch.tensor([0, 0, 1])))

    for p in (1.25, 2.0, 5.0):
        assert all(map(math.isfinite, score(task, torch.eye(3), p=p, names=0.0)))


def test_a_class_without_images_is_refused(world: World) -> None:
    support = parts_of(world.task)[2]
    rest = replace(world.task, support=vo.Support(support.features[1:6], support.labels[1:6]))

    with pytest.raises(TaskError, match=r"at least 1 labelled image per class, and 1 of 6 .* class 0 \(0\)"):
        vo.create_detector("conjnorm").fit(rest)


def test_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """One image per class, as measured."""
    support = vo.Support(clip_vectors["imagenet"][::2], torch.arange(1000))
    fitted = vo.create_detector("conjnorm").fit(vo.Task(imagenet, support=support))
    known = fitted.score(clip_vectors["imagenet"][1::2])

    assert auroc(known, fitted.score(clip_vectors["sun"])) > 0.82
    assert auroc(known, fitted.score(clip_vectors["cars"])) > 0.93
