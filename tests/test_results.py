"""Results per image: decision, reason, threshold, p-value and nearest names."""

import pytest
import torch

import vlm_ood as vo
from vlm_ood.calibration import Calibration
from vlm_ood.errors import TaskError
from vlm_ood.results import judge, judge_evidence

CLASSES = vo.TextBank(("cat", "dog"), torch.eye(2))
IMAGES = vo.ImageFeatures(torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 1.0]]))


def test_without_a_calibration_there_is_no_decision_and_a_reason() -> None:
    fitted = vo.create_detector("mcm").fit(vo.Task(classes=CLASSES))
    answers = judge(fitted, ["a", "b", "c"], IMAGES, top=1)
    assert [answer.decision for answer in answers] == [None] * 3
    assert "no calibration" in answers[0].reason
    assert [answer.classes[0].name for answer in answers][:2] == ["cat", "dog"]
    assert answers[0].classes[0].probability == pytest.approx(1.0)


def test_a_threshold_decides_and_equal_scores_belong() -> None:
    fitted = vo.create_detector("max_cosine").fit(vo.Task(classes=CLASSES))
    calibration = Calibration.of([-0.9, -0.8], keep=0.9, digest=fitted.digest)
    answers = judge(fitted, ["a", "b", "c"], IMAGES, calibration=calibration)
    assert [answer.decision for answer in answers] == ["in", "in", "out"]  # -1, -0.8, -0.707 against -0.8
    assert [answer.p_value for answer in answers] == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert "above the threshold -0.8" in answers[2].reason
    scores = fitted.score(IMAGES).double().numpy()
    tie = Calibration(scores[:2], 0.9, "empirical", fitted.digest, tolerance=0.0)
    assert tie.threshold == scores[1]
    answers = judge(fitted, ["a", "b", "c"], IMAGES, calibration=tie)
    assert [answer.decision for answer in answers] == ["in", "in", "out"]
    assert [answer.p_value for answer in answers] == pytest.approx([1.0, 2 / 3, 1 / 3])


def test_the_answer_is_that_of_the_calibration_to_the_last_bit() -> None:
    """A score that rounding puts above its own threshold is in, as `is_ood` has it."""
    fitted = vo.create_detector("max_cosine").fit(vo.Task(classes=CLASSES))
    scores = fitted.score(IMAGES).double()
    calibration = Calibration.of(torch.cat([scores, scores - 1e-7]), keep=0.99, digest=fitted.digest)
    nudged = Calibration(calibration.scores - 1e-7, 0.99, "empirical", fitted.digest, calibration.tolerance)
    for each in (calibration, nudged):
        answers = judge(fitted, ["a", "b", "c"], IMAGES, calibration=each)
        assert [answer.decision == "out" for answer in answers] == each.is_ood(scores).tolist() == [False] * 3
    assert (scores > nudged.threshold).any()


def test_a_calibration_of_another_detector_is_refused() -> None:
    calibration = Calibration.of([0.1, 0.2], digest="another")
    fitted = vo.create_detector("mcm").fit(vo.Task(classes=CLASSES))
    with pytest.raises(TaskError, match="calibrate again"):
        judge(fitted, ["a", "b", "c"], IMAGES, calibration=calibration)


def test_a_method_with_its_own_rule_decides_without_a_calibration() -> None:
    task = vo.Task(classes=CLASSES, no=vo.TextBank(("no cat", "no dog"), -torch.eye(2)))
    answers = judge(vo.create_detector("clipn").fit(task), ["a", "b", "c"], IMAGES)
    assert [answer.decision for answer in answers] == ["in"] * 3
    assert "threshold-free" in answers[0].reason


def test_no_images_give_no_answers() -> None:
    fitted = vo.create_detector("mcm").fit(vo.Task(classes=CLASSES))
    assert judge(fitted, [], vo.ImageFeatures(torch.empty(0, 2))) == []


@pytest.mark.parametrize("name", ["neglabel", "clipn"])
def test_evidence_found_elsewhere_gives_the_same_answers(name: str) -> None:
    no = vo.TextBank(("no cat", "no dog"), torch.tensor([[0.0, 1.0], [1.0, 0.1]]))
    negatives = vo.TextBank(("cup", "car", "kite"), torch.tensor([[1.0, 1.0], [-1.0, 0.5], [0.2, 1.0]]))
    fitted = vo.create_detector(name).fit(vo.Task(classes=CLASSES, negatives=negatives, no=no))
    names = ["a", "b", "c"]
    evidence = fitted.examine(IMAGES, top=100)
    assert judge_evidence(fitted, names, IMAGES, evidence, top=1) == judge(fitted, names, IMAGES, top=1)
    calibration = vo.calibrate(evidence.scores, keep=0.5, digest=fitted.digest)
    elsewhere = judge_evidence(fitted, names, IMAGES, evidence, calibration=calibration)
    assert elsewhere == judge(fitted, names, IMAGES, calibration=calibration)


def test_three_classes_are_named_at_the_scale_of_clip_unless_asked_otherwise() -> None:
    classes = vo.TextBank(("a", "b", "c", "d", "e"), torch.eye(5))
    fitted = vo.create_detector("mcm").fit(vo.Task(classes=classes))
    images = vo.ImageFeatures(torch.tensor([[0.5, 0.5, 0.49, 0.48, 0.0]]))
    (answer,) = judge(fitted, ["a"], images)
    expected = (100 * images.pooled[0].double()).softmax(dim=0)[:3].tolist()
    assert [near.name for near in answer.classes] == ["a", "b", "c"]
    assert [near.probability for near in answer.classes] == pytest.approx(expected, rel=1e-4)
    assert judge_evidence(fitted, ["a"], images, fitted.examine(images)) == [answer]


def test_a_name_that_is_missing_is_never_the_name_of_another_image() -> None:
    fitted = vo.create_detector("mcm").fit(vo.Task(classes=CLASSES))
    with pytest.raises(ValueError, match="longer"):
        judge(fitted, ["a", "b"], IMAGES)
