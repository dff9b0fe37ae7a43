"""The largest cosine."""

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import auroc
from vlm_ood.detectors.max_cosine import max_cosine


def test_two_images_by_hand() -> None:
    scores = max_cosine(torch.tensor([[0.1, 0.3, -0.2], [-0.5, -0.4, -0.9]]))

    assert scores.tolist() == pytest.approx([-0.3, 0.4])


def test_works_with_one_class() -> None:
    task = vo.Task(classes=vo.TextBank(("cat",), torch.tensor([[3.0, 4.0]])))
    images = vo.ImageFeatures(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))

    assert vo.create_detector("max_cosine").fit(task).score(images).tolist() == pytest.approx([-0.6, 0.8])


def test_figures_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """AUROC of shared/data/README.md."""
    fitted = vo.create_detector("max_cosine").fit(vo.Task(classes=imagenet))
    known, sun, cars = (fitted.score(clip_vectors[part]) for part in ("imagenet", "sun", "cars"))

    assert auroc(known, sun) == pytest.approx(0.846, abs=5e-4)
    assert auroc(known, cars) == pytest.approx(0.949, abs=5e-4)
