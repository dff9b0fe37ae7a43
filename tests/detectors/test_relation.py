"""Relations to the labelled images: by hand, against fp64, and in blocks."""

import math

import pytest
import torch

import vlm_ood as vo
from tests.detectors.reference import assert_same_order
from tests.detectors.world import World, parts_of
from vlm_ood.detectors import relation
from vlm_ood.errors import TaskError

ROWS = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
BANK = vo.TextBank(("a", "b"), torch.eye(3)[:2])
TASK = vo.Task(BANK, support=vo.Support(vo.ImageFeatures(ROWS), torch.tensor([0, 1, 1])))


def share(first: float, second: float) -> float:
    """Probability of the first of two classes at scale 5."""
    return math.exp(5 * first) / (math.exp(5 * first) + math.exp(5 * second))


def test_three_images_by_hand() -> None:
    image, known = share(0.8, -0.6), [share(1, 0), share(0.6, 0.8), 0.5]
    same = [image * each + (1 - image) * (1 - each) for each in known]
    relations = [0.8 * same[0], 0, 0]  # the cosines are 0.8, 0 and 0

    fitted = vo.create_detector("relation", power=2, scale=5).fit(TASK)

    assert sum(relations) > 0
    score = fitted.score(vo.ImageFeatures(torch.tensor([[0.8, -0.6, 0]])))
    assert score.tolist() == pytest.approx([-math.log(sum(each**2 for each in relations)) / 2])


def test_an_image_without_relations_has_the_highest_score_of_all() -> None:
    fitted = vo.create_detector("relation").fit(TASK)
    images = vo.ImageFeatures(torch.tensor([[-0.6, -0.8, 0], [-0.6, 0.79, 0.1], [0.8, 0.6, 0]]))

    first, second, third = fitted.score(images).tolist()

    assert math.inf > first > second > third


@pytest.mark.parametrize("power", [1.0, 8.0])
def test_ranks_as_the_sum_of_the_paper_in_fp64(power: float, world: World) -> None:
    names, known = world.task.classes.embeddings.double(), parts_of(world.task)[2].features.pooled.double()
    x = world.id_images.pooled.double()
    probable, own = ((20 * each @ names.T).softmax(dim=1) for each in (known, x))
    relations = ((x @ known.T).clamp(min=0) * (own @ probable.T)) ** power

    score = vo.create_detector("relation", power=power).fit(world.task).score(world.id_images)

    assert_same_order(score, -relations.sum(dim=1))
    assert score.tolist() == pytest.approx((-relations.sum(dim=1).log() / power).tolist(), abs=1e-4)


def test_blocks_give_what_one_matrix_gives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = vo.create_detector("relation").fit(world.task)
    whole = fitted.score(world.id_images)
    monkeypatch.setattr(relation, "ROWS", 5)
    monkeypatch.setattr(relation, "CELLS", 35)  # 7 of the 48 labelled images

    assert torch.allclose(fitted.score(world.id_images), whole, atol=1e-5)


def test_no_labelled_image_is_refused_with_a_remedy() -> None:
    nothing = vo.Support(vo.ImageFeatures(torch.empty(0, 3)), torch.empty(0, dtype=torch.long))

    with pytest.raises(TaskError, match=r"relation needs at least 1 labelled image, got 0: add images"):
        vo.create_detector("relation").fit(vo.Task(BANK, support=nothing))
