"""OODD and AdaNeg by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import vlm_ood as vo
from tests.detectors.world import World, make_world
from vlm_ood.errors import ParameterError, TaskError, UnknownNameError

AXES = torch.eye(4)


def bank(rows: Tensor) -> vo.TextBank:
    return vo.TextBank(tuple(f"name {row}" for row in range(len(rows))), rows)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def test_oodd_adds_the_kth_cosine_to_the_most_ood_like_images() -> None:
    fitted = vo.create_detector("max_cosine").fit(vo.Task(bank(AXES[:1])))
    session = vo.adapting(fitted, "oodd", capacity=2, k=2, weight=0.5)
    image = vo.ImageFeatures(torch.tensor([[0.0, 0.8, 0.6, 0]]))

    assert session.score(image).item() == 0  # nothing is held yet
    session.reset()
    session.score(vo.ImageFeatures(torch.stack([AXES[0], AXES[1], AXES[2]])))  # the first is the least OOD-like
    assert len(session) == 2
    assert session.score(image).item() == pytest.approx(0.5 * 0.6)  # cosines are 0.8 and 0.6


def test_oodd_starts_from_the_background() -> None:
    task = vo.Task(bank(AXES[:1]), background=torch.tensor([0, 0.5, 0, 0]))
    session = vo.adapting(vo.create_detector("max_cosine").fit(task), "oodd", weight=1.0)

    score = session.score(vo.ImageFeatures(torch.tensor([[0.6, 0.8, 0, 0]])))

    assert score.item() == pytest.approx(-0.6 + 0.8 * 0.5)


def test_oodd_works_over_every_kind_of_score(world: World) -> None:
    for name in ("mcm", "energy", "neglabel", "clipn", "knn"):
        session = vo.adapting(vo.create_detector(name).fit(world.task), "oodd")
        for _ in range(2):
            id_scores, ood_scores = session.score(world.id_images), session.score(world.ood_images)
        assert torch.isfinite(torch.cat([id_scores, ood_scores])).all()
        assert vo.metrics.auroc(id_scores, ood_scores) > 0.9


@pytest.mark.parametrize("proxies", ["sample", "task"])
@pytest.mark.parametrize("text_weight", [0.0, 0.1])
def test_adaneg_by_hand(proxies: str, text_weight: float) -> None:
    classes, negatives = AXES[:1], AXES[1:3]
    task = vo.Task(bank(classes), negatives=bank(negatives))
    fitted = vo.create_detector("neglabel", groups=1, temperature=0.1).fit(task)
    session = vo.adapting(fitted, "adaneg", proxies=proxies, beta=2.0, text_weight=text_weight)
    seen = normalize(torch.tensor([[0.1, 0.9, 0, 0.4]]), dim=1)  # of the first negative, surely
    image = normalize(torch.tensor([[0.5, 0.3, 0, 0.6]]), dim=1)

    session.score(vo.ImageFeatures(seen))
    score = session.score(vo.ImageFeatures(image)).item()

    members = torch.cat([negatives[:1], seen])
    weights = (2 * (members @ image[0] - 1)).exp() if proxies == "sample" else torch.ones(2)
    proxy = normalize((weights[:, None] * members).sum(dim=0), dim=0)

    def share(rows: Tensor) -> float:
        return float((rows @ image[0] / 0.1).softmax(dim=0)[1:].sum())

    adapted = share(torch.stack([classes[0], proxy, negatives[1]]))
    plain = share(torch.cat([classes, negatives]))
    expected = (adapted + text_weight * plain) / (1 + text_weight)
    assert score == pytest.approx(math.log(expected / (1 - expected)), abs=1e-4)


def test_adaneg_with_an_empty_memory_is_neglabel(world: World) -> None:
    fitted = vo.create_detector("neglabel").fit(world.task)

    scores = vo.adapting(fitted, "adaneg").score(world.ood_images)

    assert torch.allclose(scores, fitted.score(world.ood_images), rtol=1e-5, atol=1e-5)


def test_adaneg_keeps_confident_images_alone() -> None:
    task = vo.Task(bank(AXES[:2]), negatives=bank(AXES[2:]))
    fitted = vo.create_detector("neglabel", groups=1, temperature=1.0).fit(task)
    unsure = normalize(AXES[0] + AXES[2], dim=0)[None]

    wide, narrow = (vo.adapting(fitted, "adaneg", gap=gap) for gap in (0.5, 0.0))
    for session in (wide, narrow):
        session.score(vo.ImageFeatures(torch.cat([unsure, AXES[:1]])))

    assert len(wide) == 0  # shares of 0.5 and 0.65
    assert len(narrow) == 1


@pytest.mark.parametrize("proxies", ["sample", "task"])
def test_adaneg_is_finite_where_an_image_is_opposite_to_its_name(proxies: str) -> None:
    task = vo.Task(bank(AXES[:1]), negatives=bank(-AXES[:1]))
    session = vo.adapting(vo.create_detector("neglabel").fit(task), "adaneg", proxies=proxies, threshold=1.0, gap=0.0)
    for image in (AXES[:1], -AXES[:1], AXES[1:2]):
        session.score(vo.ImageFeatures(image))

    assert session.score(vo.ImageFeatures(torch.cat([AXES, -AXES]))).isfinite().all()


def test_adaneg_scores_in_blocks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = vo.adapting(vo.create_detector("neglabel").fit(world.task), "adaneg")
    session.score(world.ood_images)
    start = session.snapshot()
    whole = session.score(world.id_images)
    assert len(session) > 1

    monkeypatch.setattr("vlm_ood.memory.adaneg.CELLS", 1)
    session.restore(start)

    assert torch.allclose(session.score(world.id_images), whole, atol=1e-4)


def test_adaneg_needs_neglabel(world: World) -> None:
    with pytest.raises(TaskError, match="not energy: fit neglabel, or use oodd"):
        vo.adapting(vo.create_detector("energy").fit(world.task), "adaneg")


def test_wrong_names_and_parameters_are_refused(world: World) -> None:
    fitted = vo.create_detector("energy").fit(world.task)
    with pytest.raises(UnknownNameError, match="did you mean 'oodd'"):
        vo.adapting(fitted, "ood")
    with pytest.raises(ParameterError, match="capacity"):
        vo.adapting(fitted, "oodd", capacity=10**9)
