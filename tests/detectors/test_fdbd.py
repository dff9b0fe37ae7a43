"""Distance to decision boundaries: by hand, by geometry, and as pytorch-ood computes it."""

import math
from dataclasses import replace

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import auroc
from tests.detectors.world import World, parts_of
from vlm_ood.detectors.fdbd import boundary_distance
from vlm_ood.errors import TaskError

TWO = vo.TextBank(("a", "b"), torch.eye(3)[:2])
SUPPORT = vo.Support(vo.ImageFeatures(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])), torch.tensor([0, 1]))


def test_two_classes_by_hand() -> None:
    fitted = vo.create_detector("fdbd").fit(vo.Task(TWO, support=SUPPORT))

    scores = fitted.score(vo.ImageFeatures(torch.tensor([[0.6, 0.8, 0], [0, 0.6, 0.8]])))

    # boundary x0 = x1; the mean image is (0.5, 0, 0.5)
    first = -(0.2 / math.sqrt(2)) / math.sqrt(0.01 + 0.64 + 0.25)
    second = -(0.6 / math.sqrt(2)) / math.sqrt(0.25 + 0.36 + 0.09)
    assert scores.tolist() == pytest.approx([first, second], rel=1e-6)


def test_the_distance_is_that_to_the_nearest_point_where_two_classes_tie(world: World) -> None:
    images, classes = world.id_images.pooled.double(), world.task.classes.embeddings.double()
    expected = []
    for image in images:
        best = int((classes @ image).argmax())
        lengths = []
        for other in set(range(len(classes))) - {best}:
            normal = classes[best] - classes[other]
            point = image - (image @ normal) / (normal @ normal) * normal
            assert point @ classes[best] == pytest.approx(point @ classes[other])
            lengths.append((image - point).norm())
        expected.append(sum(lengths) / len(lengths))

    assert torch.allclose(boundary_distance(images.float(), classes.float()).double(), torch.stack(expected), atol=1e-6)


def test_classes_of_one_vector_add_nothing() -> None:
    image = torch.tensor([[0.6, 0.8, 0]])
    alone = boundary_distance(image, TWO.embeddings)

    doubled = boundary_distance(image, TWO.embeddings[[0, 1, 1]])

    assert doubled.item() == pytest.approx(alone.item() / 2)  # one boundary of two


def test_an_image_at_the_mean_has_a_finite_score() -> None:
    support = vo.Support(vo.ImageFeatures(torch.tensor([[0.8, 0.6, 0]]).repeat(2, 1)), torch.tensor([0, 1]))
    fitted = vo.create_detector("fdbd").fit(vo.Task(TWO, support=support))

    assert fitted.score(support.features).isfinite().all()


def test_a_class_without_images_is_refused(world: World) -> None:
    support = parts_of(world.task)[2]
    rest = replace(world.task, support=vo.Support(support.features[1:6], support.labels[1:6]))

    with pytest.raises(TaskError, match=r"at least 1 labelled image per class, and 1 of 6 .* class 0 \(0\)"):
        vo.create_detector("fdbd").fit(rest)


def test_scores_are_those_of_pytorch_ood(world: World) -> None:
    theirs = pytest.importorskip("pytorch_ood.detector")
    head = torch.nn.Linear(64, len(world.task.classes), bias=False)
    head.weight.data = world.task.classes.embeddings
    reference = theirs.fDBD(torch.nn.Identity(), head).fit_features(parts_of(world.task)[2].features.pooled)

    scores = vo.create_detector("fdbd").fit(world.task).score(world.id_images)

    assert torch.allclose(scores, reference.predict_features(world.id_images.pooled), atol=1e-5)


def test_on_real_clip_vectors(clip_vectors: dict[str, vo.ImageFeatures], imagenet: vo.TextBank) -> None:
    """As measured with one image per class; two of ImageNet's names are equal, and their boundary is no number."""
    support = vo.Support(clip_vectors["imagenet"][::2], torch.arange(1000))
    fitted = vo.create_detector("fdbd").fit(vo.Task(imagenet, support=support))
    known = fitted.score(clip_vectors["imagenet"][1::2])

    assert auroc(known, fitted.score(clip_vectors["sun"])) > 0.8
    assert auroc(known, fitted.score(clip_vectors["cars"])) > 0.75
