"""The free energy of the cosines."""

import math

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import auroc
from vlm_ood.detectors.energy import energy


def test_two_classes_by_hand() -> None:
    score = energy(torch.tensor([[0.03, 0.01]]), scale=100.0)

    assert score.item() == pytest.approx(-math.log(math.exp(3) + math.exp(1)) / 100)


def test_one_class_gives_minus_its_cosine() -> None:
    assert energy(torch.tensor([[0.25]]), scale=100.0).item() == pytest.approx(-0.25)


def test_lies_between_the_bounds_that_it_states() -> None:
    shift = math.log(5) / 100

    assert energy(torch.ones(1, 5), scale=100.0).item() == pytest.approx(-1 - shift)
    assert energy(-torch.ones(1, 5), scale=100.0).item() == pytest.approx(1 - shift)


def test_a_large_scale_leaves_the_largest_cosine() -> None:
    cosine = torch.tensor([[0.3, 0.1, -0.4]])

    assert energy(cosine, scale=1000.0).item() == pytest.approx(-0.3, abs=1e-6)


def test_figures_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """AUROC of shared/data/README.md, energy at scale 100."""
    fitted = vo.create_detector("energy").fit(vo.Task(classes=imagenet))
    known, sun, cars = (fitted.score(clip_vectors[part]) for part in ("imagenet", "sun", "cars"))

    assert auroc(known, sun) == pytest.approx(0.852, abs=5e-4)
    assert auroc(known, cars) == pytest.approx(0.969, abs=5e-4)
