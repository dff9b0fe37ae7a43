"""Free energy above an ordinary level of closeness to the mean class."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vlm_ood as vo
from tests.detectors.conftest import read
from tests.detectors.reference import auroc

TWO = vo.TextBank(("a", "b"), torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
MANY = vo.TextBank(tuple("abcdefghijkl"), torch.eye(12))
IMAGE = torch.tensor([[0.6, 0.8, 0, 0]])


def score(images: Tensor, task: vo.Task, **parameters: float) -> list[float]:
    return vo.create_detector("adjusted_energy", **parameters).fit(task).score(vo.ImageFeatures(images)).tolist()


def energy_of(cosines: list[float], scale: float = 100.0) -> float:
    return -math.log(sum(math.exp(scale * cosine) for cosine in cosines)) / scale


def test_without_background_half_the_cosine_to_the_mean_class_is_added() -> None:
    expected = energy_of([0.6, 0.8]) + 0.5 * 0.7  # the mean class is (1/2, 1/2, 0, 0)

    assert score(IMAGE, vo.Task(TWO)) == [pytest.approx(expected)]


def test_above_the_ordinary_level_most_of_the_excess_is_added() -> None:
    ordinary = torch.tensor([0.5, 0.1, 0.3, 0])  # m0 = 0.3

    assert score(IMAGE, vo.Task(TWO, background=ordinary)) == [pytest.approx(energy_of([0.6, 0.8]) + 0.85 * 0.4)]


def test_below_the_ordinary_level_it_is_energy() -> None:
    ordinary = torch.tensor([0.8, 0.8, 0, 0])  # m0 = 0.8

    assert score(IMAGE, vo.Task(TWO, background=ordinary)) == [pytest.approx(energy_of([0.6, 0.8]))]


def test_weight_and_scale_count() -> None:
    task = vo.Task(TWO, background=torch.tensor([0.5, 0.1, 0.3, 0]))

    assert score(IMAGE, task, weight=0.0, scale=20.0) == [pytest.approx(energy_of([0.6, 0.8], 20.0))]


def test_few_classes_are_drawn_to_everyday_words() -> None:
    background = vo.Background(images=torch.zeros(4), words=torch.tensor([0, 0, 0.6, 0]))
    image = torch.tensor([[0.6, 0, 0.8, 0]])
    near_all = (0.6 + 10 * 0.6 * 0.8) / 12  # t = (1, 1, 10 * 0.6, 0) / 12

    assert score(image, vo.Task(TWO, background=background)) == [pytest.approx(energy_of([0.6, 0]) + 0.85 * near_all)]


def test_words_do_not_count_from_ten_classes_on() -> None:
    image = torch.full((1, 12), 12**-0.5)
    words = [vo.Background(torch.zeros(12), torch.full((12,), length)) for length in (0.0, 0.5)]

    first, second = (score(image, vo.Task(MANY, background=each)) for each in words)

    assert first == second


def test_labelled_images_give_the_level() -> None:
    features = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 1, 0], [0, 1, 2, 0], [0, 1, 0, 0]]), dim=-1)
    support = vo.Support(vo.ImageFeatures(features), torch.tensor([0, 1, 1]))
    near_all = (features @ torch.tensor([0.5, 0.5, 0, 0])).double()
    spread = math.sqrt((3 * near_all.var(correction=0).item() + 2 * 0.015**2) / 5)
    level = near_all.mean().item() - spread / 2
    ordinary = torch.tensor([0.8, 0.8, 0, 0])  # not read: the images of the task know better

    task = vo.Task(TWO, support=support, background=ordinary)

    assert score(IMAGE, task, prototypes=0.0) == [pytest.approx(energy_of([0.6, 0.8]) + 0.85 * (0.7 - level), rel=1e-5)]


def test_labelled_images_move_their_class_by_their_number() -> None:
    second = torch.nn.functional.normalize(torch.tensor([[0, 0.0, 1, 0], [0, 0, 1, 0], [0, 0.6, 0, 0.8]]), dim=-1)
    support = vo.Support(vo.ImageFeatures(second), torch.tensor([1, 1, 0]))
    image = torch.tensor([[0.0, 0.6, 0.8, 0]])
    first = 0 + 0.5 * 1 / 5 * 0.36  # one image at (0, 0.6, 0, 0.8)
    other = 0.6 + 0.5 * 2 / 6 * 0.8  # two images at (0, 0, 1, 0)

    assert score(image, vo.Task(TWO, support=support), prototypes=0.5, weight=0.0) == [
        pytest.approx(energy_of([first, other]), rel=1e-5)
    ]


def test_a_class_without_images_keeps_its_name_alone() -> None:
    support = vo.Support(vo.ImageFeatures(torch.tensor([[0, 0, 1.0, 0]])), torch.tensor([0]))

    assert score(IMAGE, vo.Task(TWO, support=support), weight=0.0) == [pytest.approx(energy_of([0.6, 0.8]), rel=1e-5)]


def test_negatives_are_compared_with_the_names_of_the_classes() -> None:
    support = vo.Support(vo.ImageFeatures(torch.tensor([[0.6, 0.8, 0.0, 0]])), torch.tensor([0]))
    near = vo.TextBank(("n",), torch.tensor([[0.6, 0.8, 0, 0]]))

    without, given = (
        score(IMAGE, vo.Task(TWO, negatives=each, support=support), prototypes=1.0, weight=0.0)[0]
        for each in (None, near)
    )

    assert given - without == pytest.approx(0.25 * (1.0 + energy_of([0.6, 0.8]) - 0.03), rel=1e-4)


def test_a_few_images_per_class_help_on_real_clip_vectors(
    clip_vectors: dict[str, vo.ImageFeatures], shared_data: Path
) -> None:
    """Two images of each of 100 classes: at most 0.005 lost to near classes, and gained on SUN397."""
    folder = shared_data / "clip-vit-b32-features"
    names, images = (
        read(folder / "imagenet-text.safetensors", "embeddings"),
        read(folder / "imagenet-4shot.safetensors"),
    )
    images = images[read(folder / "imagenet-4shot.safetensors", "labels").argsort(stable=True)].view(1000, 4, -1)
    labels = torch.arange(100).repeat_interleave(2)
    bank = vo.TextBank(tuple(f"class {row}" for row in range(100)), names[::10])
    task = vo.Task(bank, background=images[5::20, 0].mean(dim=0))
    given = replace(task, support=vo.Support(vo.ImageFeatures(images[::10, :2].flatten(0, 1)), labels))
    kept = vo.ImageFeatures(images[::10, 2:].flatten(0, 1))
    figures = {
        (kind, ood): auroc(fitted.score(kept), fitted.score(others))
        for kind, fitted in {
            "names": vo.create_detector("adjusted_energy").fit(task),
            "images": vo.create_detector("adjusted_energy").fit(given),
        }.items()
        for ood, others in {"sun": clip_vectors["sun"], "near": vo.ImageFeatures(images[5::10, 2])}.items()
    }

    assert figures["images", "sun"] > figures["names", "sun"] + 0.005
    assert figures["images", "near"] > figures["names", "near"] - 0.005


def test_negatives_that_are_clearly_nearer_add_a_quarter() -> None:
    image = torch.tensor([[0.6, 0, 0, 0.8]])
    near = vo.TextBank(("n",), torch.tensor([[0, 0, 0, 1.0]]))
    far = vo.TextBank(("n",), torch.tensor([[0, 0, 1.0, 0]]))
    level = torch.tensor([1.0, 1.0, 0, 0])
    own = energy_of([0.6, 0])

    assert score(image, vo.Task(TWO, negatives=near, background=level)) == [
        pytest.approx(own + 0.25 * (own + 0.8 - 0.03))
    ]
    assert score(image, vo.Task(TWO, negatives=far, background=level)) == [pytest.approx(own)]


def test_negatives_are_named() -> None:
    negatives = vo.TextBank(("wolf", "sofa"), torch.tensor([[0, 0, 0, 1.0], [0, 0, 1.0, 0]]))
    fitted = vo.create_detector("adjusted_energy").fit(vo.Task(TWO, negatives=negatives))

    ((name, share),) = fitted.pulled_out_by(vo.ImageFeatures(torch.tensor([[0.6, 0, 0, 0.8]])), top=1)[0]

    assert name == "wolf"
    assert share > 0.99


def test_holds_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """At most 0.02 below the best zero-shot score on SUN397 and Stanford Cars, with photographs of other classes."""
    ordinary = clip_vectors["imagenet"].pooled[::40].mean(dim=0)
    for background in (ordinary, None):
        task = vo.Task(imagenet, background=background)
        for ood in ("sun", "cars"):
            figures = {}
            for name in ("adjusted_energy", "energy", "max_cosine", "mcm"):
                fitted = vo.create_detector(name).fit(task)
                figures[name] = auroc(fitted.score(clip_vectors["imagenet"]), fitted.score(clip_vectors[ood]))
            assert figures["adjusted_energy"] > max(figures.values()) - (0.02 if background is not None else 0.06), ood
