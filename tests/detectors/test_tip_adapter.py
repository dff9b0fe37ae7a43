"""Joint logits of names and labelled images: by hand, against fp64, and in blocks."""

import math

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.detectors import tip_adapter
from vlm_ood.errors import TaskError

ROWS = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
BANK = vo.TextBank(("a", "b"), torch.eye(3)[:2])


def task(labels: list[int]) -> vo.Task:
    return vo.Task(BANK, support=vo.Support(vo.ImageFeatures(ROWS), torch.tensor(labels)))


def test_two_classes_by_hand() -> None:
    image = vo.ImageFeatures(torch.tensor([[0.8, 0.6, 0]]))  # 0.8 and 0.6 to the names; 0.8, 0.96 and 0 to the images
    first = 10 * 0.8 + 3 * (math.exp(-2 * 0.2) + math.exp(-2 * 0.04)) / 2
    second = 10 * 0.6 + 3 * math.exp(-2 * 1)
    expected = -math.log(math.exp(first) + math.exp(second)) / 10

    fitted = vo.create_detector("tip_adapter", alpha=3, beta=2, scale=10).fit(task([0, 0, 1]))

    assert fitted.score(image).tolist() == pytest.approx([expected], abs=1e-6)


def test_is_the_energy_of_the_papers_logits_with_alpha_by_images_per_class(world: World) -> None:
    """Their logits, in fp64: s x W' + alpha exp(-beta (1 - x F')) L with L one-hot; eight images per class."""
    support = parts_of(world.task)[2]
    x, names, known = (
        each.double() for each in (world.ood_images.pooled, world.task.classes.embeddings, support.features.pooled)
    )
    one_hot = torch.nn.functional.one_hot(support.labels).double()
    logits = 100 * x @ names.T + 2 * (-5.5 * (1 - x @ known.T)).exp() @ one_hot

    score = vo.create_detector("tip_adapter", alpha=16).fit(world.task).score(world.ood_images)

    assert score.tolist() == pytest.approx((-logits.logsumexp(dim=1) / 100).tolist(), abs=1e-5)


def test_without_weight_it_is_energy(world: World) -> None:
    tip, energy = (
        vo.create_detector(name, **given).fit(world.task).score(world.id_images)
        for name, given in (("tip_adapter", {"alpha": 0}), ("energy", {}))
    )

    assert torch.equal(tip, energy)


def test_blocks_give_what_one_matrix_gives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = vo.create_detector("tip_adapter").fit(world.task)
    whole = fitted.score(world.id_images)
    monkeypatch.setattr(tip_adapter, "ROWS", 5)
    monkeypatch.setattr(tip_adapter, "CELLS", 35)  # 7 of the 48 labelled images

    assert torch.allclose(fitted.score(world.id_images), whole, atol=1e-6)


def test_a_class_without_images_is_refused_with_a_remedy() -> None:
    with pytest.raises(TaskError, match=r"tip_adapter needs at least 1 labelled image per class.* b \(0\): add images"):
        vo.create_detector("tip_adapter").fit(task([0, 0, 0]))
