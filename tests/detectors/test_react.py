"""Energy of cut coordinates: by hand, between two images, and as torch finds quantiles."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import vlm_ood as vo
from tests.detectors.reference import auroc
from tests.detectors.world import World, parts_of
from vlm_ood.detectors import react
from vlm_ood.errors import TaskError

TWO = vo.TextBank(("a", "b"), torch.eye(2))


def task_of(images: Tensor) -> vo.Task:
    return vo.Task(TWO, support=vo.Support(vo.ImageFeatures(images), torch.arange(len(images)) % 2))


def energy_of(first: float, second: float) -> float:
    """At scale 10, of a vector brought to length 1."""
    length = math.hypot(first, second)
    return -math.log(math.exp(10 * first / length) + math.exp(10 * second / length)) / 10


def score(task: vo.Task, images: Tensor, quantile: float) -> list[float]:
    fitted = vo.create_detector("react", quantile=quantile, scale=10.0).fit(task)
    return fitted.score(vo.ImageFeatures(images)).tolist()


def test_coordinates_are_cut_to_the_range_of_the_labelled_images() -> None:
    task = task_of(torch.tensor([[0.8, -0.6], [0.6, 0.8]]).repeat(8, 1))

    found = score(task, torch.tensor([[0.0, 1.0], [0.7, 0.714], [1.0, 0.0], [0.0, -1.0]]), quantile=1.0)

    expected = [energy_of(0.6, 0.8), energy_of(0.7, 0.714), energy_of(0.8, 0), energy_of(0.6, -0.6)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_limit_between_two_images_by_hand() -> None:
    first = torch.arange(21) / 20
    task = task_of(torch.stack([first, (1 - first.square()).sqrt()], dim=1))
    # the quantiles 0.125 and 0.875 of 21 numbers lie halfway between the third and fourth from the end
    least = (math.sqrt(1 - 0.9**2) + math.sqrt(1 - 0.85**2)) / 2

    assert score(task, torch.tensor([[1.0, 0.0]]), quantile=0.875) == [pytest.approx(energy_of(0.875, least), abs=1e-6)]


def test_scores_follow_the_definition_in_fp64(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    images, known = world.ood_images.pooled.double(), parts_of(world.task)[2].features.pooled.double()
    cut = images.clamp(known.quantile(0.2, dim=0), known.quantile(0.8, dim=0))
    cosine = cut @ world.task.classes.embeddings.double().T / cut.norm(dim=1, keepdim=True)
    expected = -(10 * cosine).exp().sum(dim=1).log() / 10
    monkeypatch.setattr(react, "COLUMNS", 7)  # the last chunk of 64 coordinates has one

    assert score(world.task, images.float(), quantile=0.8) == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_image_of_which_nothing_is_left_has_a_finite_score() -> None:
    images = torch.eye(2).repeat(8, 1) * torch.tensor([1.0, -1.0])  # coordinates in [0, 1] and [-1, 0]

    assert score(task_of(images), torch.tensor([[-0.6, 0.8]]), quantile=1.0) == [pytest.approx(-math.log(2) / 10)]


def test_too_few_images_in_total_are_refused(world: World) -> None:
    support = parts_of(world.task)[2]
    few, enough = (
        replace(world.task, support=vo.Support(support.features[:count], support.labels[:count])) for count in (15, 16)
    )

    vo.create_detector("react").fit(enough)
    with pytest.raises(TaskError, match=r"react needs at least 16 labelled images, got 15: add images"):
        vo.create_detector("react").fit(few)


def test_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """As measured: near `energy`, neither better nor much worse."""
    support = vo.Support(clip_vectors["imagenet"][::2], torch.arange(1000))
    task = vo.Task(imagenet, support=support)
    figures = {}
    for name in ("react", "energy"):
        fitted = vo.create_detector(name).fit(task)
        known = fitted.score(clip_vectors["imagenet"][1::2])
        figures[name] = [auroc(known, fitted.score(clip_vectors[ood])) for ood in ("sun", "cars")]

    assert figures["react"] == pytest.approx(figures["energy"], abs=0.02)
