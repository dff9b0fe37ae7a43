"""Accept, abstain, reject: the rule by hand, and where it agrees with the calibration."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vlm_ood as vo
from tests.detectors.world import make_world
from vlm_ood.errors import ParameterError, TaskError
from vlm_ood.results import judge
from vlm_ood.selective import Costs, act, costs_from

COSTS = Costs(wrong=1.0, rejected=0.5)


@pytest.mark.parametrize(
    ("p_value", "confidence", "expected"),
    [
        (0.8, 0.9, "accept"),  # 0.1 + 0.5 (0.05 / 0.8)^0.5 = 0.225
        (0.8, 0.5, "abstain"),  # 0.5 + 0.125
        (0.2, 0.7, "abstain"),  # 0.3 + 0.25
        (0.2, 0.8, "accept"),  # 0.2 + 0.25
        (0.04, 1.0, "reject"),  # 0 + 0.559
        (0.04, 0.1, "reject"),
    ],
)
def test_by_hand(p_value: float, confidence: float, expected: str) -> None:
    action, reason = act(p_value, confidence, keep=0.95, costs=COSTS)

    assert action == expected
    assert "0.5" in reason


def test_the_reason_has_both_terms() -> None:
    assert act(0.2, 0.7, 0.95, COSTS)[1] == (
        "accepting costs 0.55 (wrong class 0.3, OOD 0.25) and is above the cost of turning it away, 0.5"
    )
    assert (
        act(0.0125, 1.0, 0.95, COSTS)[1]
        == "that it may be OOD costs 1 and is alone above the cost of turning it away, 0.5"
    )


@given(
    p=st.floats(0.001, 1),
    confidence=st.floats(0, 1),
    factor=st.sampled_from([0.25, 4.0, 1024.0]),
    wrong=st.floats(0, 10),
    accepted=st.floats(0, 10),
)
def test_only_ratios_count(p: float, confidence: float, factor: float, wrong: float, accepted: float) -> None:
    scaled = Costs(wrong * factor, factor, accepted * factor)

    assert act(p, confidence, 0.9, Costs(wrong, 1.0, accepted))[0] == act(p, confidence, 0.9, scaled)[0]


@given(p=st.floats(0.001, 1), confidence=st.floats(0, 1), lower=st.floats(0.001, 1), less=st.floats(0, 1))
def test_a_rarer_score_or_less_confidence_never_accepts_more(
    p: float, confidence: float, lower: float, less: float
) -> None:
    order = {"accept": 0, "abstain": 1, "reject": 2}

    before = order[act(p, confidence, 0.95, COSTS)[0]]

    assert order[act(p * lower, confidence, 0.95, COSTS)[0]] >= before
    assert order[act(p, confidence * less, 0.95, COSTS)[0]] >= before


def test_with_a_certain_class_it_rejects_what_the_calibration_calls_out() -> None:
    world = make_world()
    fitted = vo.create_detector("max_cosine").fit(world.task)
    calibration = vo.calibrate(fitted.score(world.id_images), keep=0.9, digest=fitted.digest)
    images = vo.ImageFeatures.concatenate([world.id_images, world.ood_images])
    names = [str(row) for row in range(len(images))]

    results = judge(fitted, names, images, calibration=calibration, costs=Costs(wrong=0.0))

    assert {result.action for result in results} == {"accept", "reject"}
    assert all((result.action == "reject") == (result.decision == "out") for result in results)


def test_an_image_between_classes_is_abstained_from() -> None:
    world = make_world()
    classes = world.task.classes.embeddings
    fitted = vo.create_detector("max_cosine").fit(world.task)
    calibration = vo.Calibration.of(np.linspace(-1, 0, 100), keep=0.95, digest=fitted.digest)
    images = vo.ImageFeatures(torch.stack([classes[0] + classes[1], classes[0]]))

    between, clear = judge(fitted, ["between", "clear"], images, calibration=calibration, costs=Costs(rejected=0.4))

    assert (between.decision, between.action) == ("in", "abstain")
    assert (clear.decision, clear.action) == ("in", "accept")


def test_no_costs_no_action() -> None:
    world = make_world()
    fitted = vo.create_detector("max_cosine").fit(world.task)
    calibration = vo.calibrate(fitted.score(world.id_images), digest=fitted.digest)

    assert judge(fitted, ["a"], world.id_images[:1], calibration=calibration)[0].action is None


def test_costs_without_a_calibration_are_refused() -> None:
    world = make_world()
    fitted = vo.create_detector("max_cosine").fit(world.task)

    with pytest.raises(TaskError, match="costs need a calibration"):
        judge(fitted, ["a"], world.id_images[:1], costs=COSTS)


def test_costs_from_text() -> None:
    assert costs_from("rejected=0.2, accepted=3") == Costs(1.0, 0.2, 3.0)


@pytest.mark.parametrize("text", ["wrong", "wrong=1,wrong=2", "wrong=-1", "rejected=0", "accepted=nan", "other=1", ""])
def test_costs_that_cannot_be_used_are_named(text: str) -> None:
    with pytest.raises(ParameterError, match="costs"):
        costs_from(text)
