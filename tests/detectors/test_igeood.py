"""Fisher-Rao distance of probabilities: by hand, and as an integral over the path between them."""

import math
from dataclasses import replace

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import auroc
from tests.detectors.world import World, parts_of
from vlm_ood.detectors import igeood
from vlm_ood.detectors.igeood import distances
from vlm_ood.errors import TaskError

TWO = vo.TextBank(("a", "b"), torch.eye(3)[:2])
SUPPORT = vo.Support(
    vo.ImageFeatures(torch.tensor([[0.8, 0, 0.6], [0.6, 0, 0.8], [0, 0.8, 0.6]])), torch.tensor([0, 0, 1])
)


def test_two_classes_by_hand() -> None:
    def softmax(first: float, second: float) -> tuple[float, float]:
        total = math.exp(first) + math.exp(second)
        return math.exp(first) / total, math.exp(second) / total

    image = softmax(2 * 0.6, 2 * 0.8)
    centres = softmax(2 * 0.7, 0), softmax(0, 2 * 0.8)  # the mean logits of each class
    apart = [2 * math.acos(math.sqrt(image[0] * q[0]) + math.sqrt(image[1] * q[1])) for q in centres]

    fitted = vo.create_detector("igeood", scale=2.0).fit(vo.Task(TWO, support=SUPPORT))

    found = fitted.score(vo.ImageFeatures(torch.tensor([[0.6, 0.8, 0]])))
    assert found.tolist() == pytest.approx([-sum(apart) / 2], rel=1e-6)


def test_it_is_the_length_of_the_path_in_units_of_information() -> None:
    """Along sqrt(p) on the sphere, steps have the length sqrt(sum dp^2 / p)."""
    ends = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]).double()
    angle = torch.acos(ends.sqrt().prod(dim=0).sum())
    steps = torch.linspace(0, 1, 20001).double()[:, None]
    path = (((1 - steps) * angle).sin() * ends[0].sqrt() + (steps * angle).sin() * ends[1].sqrt()) / angle.sin()
    p = path.square()
    length = (p.diff(dim=0).square() / ((p[1:] + p[:-1]) / 2)).sum(dim=1).sqrt().sum()

    assert distances(ends[:1].sqrt(), ends[1:].sqrt()).item() == pytest.approx(length.item(), rel=1e-6)


def test_a_small_distance_is_exact_in_fp32() -> None:
    angles = torch.tensor([1e-5, 1e-3, 0.5])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)

    found = distances(rows, torch.tensor([[1.0, 0.0]]))

    assert found.squeeze(1).tolist() == pytest.approx((2 * angles).tolist(), rel=1e-4)


def test_scores_follow_the_definition_in_fp64(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(igeood, "CHUNK", 4)  # of six classes
    support = parts_of(world.task)[2]
    classes = world.task.classes.embeddings.double()
    images = torch.cat([world.id_images.pooled, world.ood_images.pooled]).double()
    p = (20 * images @ classes.T).softmax(dim=1)
    expected = torch.zeros(len(images)).double()
    for k in range(len(classes)):
        logits = 20 * support.features.pooled[support.labels == k].double() @ classes.T
        q = logits.mean(dim=0).softmax(dim=0)
        expected -= 2 * torch.acos((p * q).sqrt().sum(dim=1)) / len(classes)

    scores = vo.create_detector("igeood", scale=20.0).fit(world.task).score(vo.ImageFeatures(images.float()))

    assert torch.allclose(scores.double(), expected, atol=1e-5)


def test_a_class_without_images_is_refused(world: World) -> None:
    support = parts_of(world.task)[2]
    rest = replace(world.task, support=vo.Support(support.features[1:6], support.labels[1:6]))

    with pytest.raises(TaskError, match=r"at least 1 labelled image per class, and 1 of 6 .* class 0 \(0\)"):
        vo.create_detector("igeood").fit(rest)


def test_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """One image per class; above `mcm`, which reads the same softmax."""
    support = vo.Support(clip_vectors["imagenet"][::2], torch.arange(1000))
    task = vo.Task(imagenet, support=support)
    figures = {}
    for name in ("igeood", "mcm"):
        fitted = vo.create_detector(name).fit(task)
        known = fitted.score(clip_vectors["imagenet"][1::2])
        figures[name] = [auroc(known, fitted.score(clip_vectors[ood])) for ood in ("sun", "cars")]

    assert min(figures["igeood"]) > 0.7
    assert sum(figures["igeood"]) > sum(figures["mcm"])
