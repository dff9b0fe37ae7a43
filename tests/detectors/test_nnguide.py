"""Energy times guidance: by hand, against fp64, and against pytorch-ood."""

import math

import pytest
import torch

import vlm_ood as vo
from tests.detectors.world import World, parts_of
from vlm_ood.errors import TaskError

ROWS = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
TASK = vo.Task(
    vo.TextBank(("a", "b"), torch.eye(3)[:2]), support=vo.Support(vo.ImageFeatures(ROWS), torch.tensor([0, 0, 1]))
)


def near(first: float, second: float) -> float:
    """E at scale 10 of two cosines."""
    return math.log(math.exp(10 * first) + math.exp(10 * second)) / 10


def score(image: list[float], **parameters: float) -> float:
    fitted = vo.create_detector("nnguide", **{"scale": 10, **parameters}).fit(TASK)
    return fitted.score(vo.ImageFeatures(torch.tensor([image]))).item()


def test_three_images_by_hand() -> None:
    guides = [near(1, 0) * 0.8, near(0.6, 0.8) * 0.96, near(0, 0) * 0]  # the image has these cosines to the three

    assert score([0.8, 0.6, 0], k=1) == pytest.approx(-near(0.8, 0.6) * max(guides))
    assert score([0.8, 0.6, 0], k=2) == pytest.approx(-near(0.8, 0.6) * (guides[0] + guides[1]) / 2)
    assert score([0.8, 0.6, 0], k=3) == pytest.approx(-near(0.8, 0.6) * sum(guides) / 3)


def test_two_negative_factors_do_not_make_an_image_known() -> None:
    assert near(-0.6, -0.8) < 0
    assert score([-0.6, -0.8, 0], k=2) == pytest.approx(-near(-0.6, -0.8))


def test_is_the_product_in_fp64(world: World) -> None:
    names, known = world.task.classes.embeddings.double(), parts_of(world.task)[2].features.pooled.double()
    x = world.ood_images.pooled.double()
    bank = known * (100 * known @ names.T).logsumexp(dim=1, keepdim=True) / 100
    guidance = (x @ bank.T).sort(dim=1, descending=True).values[:, :5].mean(dim=1)

    score = vo.create_detector("nnguide", k=5).fit(world.task).score(world.ood_images)

    assert score.tolist() == pytest.approx((-guidance * (100 * x @ names.T).logsumexp(dim=1) / 100).tolist(), abs=1e-6)


def test_scores_as_pytorch_ood_does(world: World) -> None:
    """Theirs are in units of logits, 100 cosines for each of the two energies."""
    detector = pytest.importorskip("pytorch_ood.detector")
    support, names = parts_of(world.task)[2], world.task.classes.embeddings
    theirs = detector.NNGuide(encoder=torch.nn.Identity(), head=lambda x: 100 * x @ names.T, k=3)
    expected = theirs.fit_features(support.features.pooled, support.labels).predict_features(world.id_images.pooled)

    score = vo.create_detector("nnguide", k=3).fit(world.task).score(world.id_images)

    assert (1e4 * score).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_fewer_images_than_neighbours_are_refused_with_a_remedy() -> None:
    with pytest.raises(TaskError, match=r"nnguide needs at least 4 labelled images, got 3: .* a smaller k"):
        vo.create_detector("nnguide", k=4).fit(TASK)
