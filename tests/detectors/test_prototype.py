"""Minus the cosine to the nearest class mean: by hand, and against fp64."""

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.errors import TaskError

ROWS = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
BANK = vo.TextBank(("a", "b"), torch.eye(3)[:2])


def task(labels: list[int]) -> vo.Task:
    return vo.Task(BANK, support=vo.Support(vo.ImageFeatures(ROWS), torch.tensor(labels)))


def test_two_classes_by_hand() -> None:
    fitted = vo.create_detector("prototype").fit(task([0, 0, 1]))  # means (0.8, 0.4, 0) and (0, 0, 1)
    images = vo.ImageFeatures(torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8], [0, 0, -1.0]]))

    assert fitted.score(images).tolist() == pytest.approx([-0.8 / 0.8**0.5, -0.8, 0], abs=1e-6)


def test_is_the_nearest_mean_in_fp64(world: World) -> None:
    support = parts_of(world.task)[2]
    known, images = support.features.pooled.double(), world.ood_images.pooled.double()
    means = torch.stack([known[support.labels == row].mean(dim=0) for row in range(len(world.task.classes))])
    cosine = torch.nn.functional.cosine_similarity(images[:, None], means[None], dim=2)

    score = vo.create_detector("prototype").fit(world.task).score(world.ood_images)

    assert score.tolist() == pytest.approx((-cosine.max(dim=1).values).tolist(), abs=1e-6)


def test_with_one_image_per_class_it_is_knn(world: World) -> None:
    support = parts_of(world.task)[2]
    single = vo.Task(world.task.classes, support=vo.Support(support.features[:6], support.labels[:6]))
    prototype, knn = (vo.create_detector(name).fit(single).score(world.id_images) for name in ("prototype", "knn"))

    assert torch.allclose(prototype, knn, atol=1e-6)


def test_a_class_without_images_is_refused_with_a_remedy() -> None:
    with pytest.raises(TaskError, match=r"prototype needs at least 1 labelled image per class.* b \(0\): add images"):
        vo.create_detector("prototype").fit(task([0, 0, 0]))
