"""From scores to answers per image: a decision with its reason, a p-value, and the nearest names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlm_ood.calibration import Calibration
from vlm_ood.detectors import Evidence, FittedDetector
from vlm_ood.errors import TaskError
from vlm_ood.selective import Action, Costs, act
from vlm_ood.types import ImageFeatures

Decision = Literal["in", "out"]

UNCALIBRATED = "no calibration: a threshold needs scores of ID images"


@dataclass(frozen=True)
class Nearest:
    """A name and how much of the probability it takes, in [0, 1]."""

    name: str
    probability: float


@dataclass(frozen=True)
class ImageResult:
    """The answer about one image.

    Args:
        image: a file name, or whatever identifies it.
        score: higher is more OOD; None when the image failed.
        decision: "in" or "out" of the distribution; None without a calibration or a rule of the method's own.
        reason: one sentence: why this decision, or why there is none.
        threshold: the score above which, by more than the calibration's tolerance, an image is out; None without a
            calibration.
        p_value: conformal, in (0, 1]: the share of ID images that score at least as high; None without a calibration.
        classes: the nearest classes, best first.
        negatives: the negative words that raised the score, strongest first; empty for methods without them.
        action: what to do with the image, where costs were given: accept it with its nearest class, abstain from
            naming one, or reject it as OOD; None without costs.
        action_reason: why, with the expected costs.
        error: why the image could not be scored; then everything else is empty.
    """

    image: str
    score: float | None = None
    decision: Decision | None = None
    reason: str = ""
    threshold: float | None = None
    p_value: float | None = None
    classes: tuple[Nearest, ...] = ()
    negatives: tuple[Nearest, ...] = ()
    action: Action | None = None
    action_reason: str = ""
    error: str | None = None


def judge(
    fitted: FittedDetector[Any],
    names: Sequence[str],
    images: ImageFeatures,
    *,
    calibration: Calibration | None = None,
    top: int = 3,
    scale: float = 100.0,
    costs: Costs | None = None,
) -> list[ImageResult]:
    """One answer per image, in order.

    A calibration decides where there is one; else the method's own rule, where it has one; else there is no decision.

    Args:
        fitted: the detector.
        names: (n,) what identifies each image.
        images: (n, d) features.
        calibration: of this very detector; None for none.
        top: how many classes and negatives to name.
        scale: what multiplies cosines before the softmax over classes; the encoder's own.
        costs: of the mistakes, for an action per image; None for none.

    Raises:
        TaskError: a calibration that was made for another detector, or costs without a calibration.
    """
    if not len(images):
        return []
    evidence = fitted.examine(images, top)
    return judge_evidence(fitted, names, images, evidence, calibration=calibration, top=top, scale=scale, costs=costs)


def judge_evidence(
    fitted: FittedDetector[Any],
    names: Sequence[str],
    images: ImageFeatures,
    evidence: Evidence,
    *,
    calibration: Calibration | None = None,
    top: int = 3,
    scale: float = 100.0,
    costs: Costs | None = None,
) -> list[ImageResult]:
    """What `judge` returns, from evidence that was found elsewhere: in the process of a worker, say.

    Args:
        fitted: the detector that the evidence comes from.
        names: (n,) what identifies each image.
        images: (n, d) pooled features, from which the nearest classes are named; nothing else of them is read.
        evidence: (n,) with at least `top` negatives where there are so many.
        calibration: of this very detector; None for none.
        top: how many classes and negatives to name.
        scale: what multiplies cosines before the softmax over classes; the encoder's own.
        costs: of the mistakes, for an action per image; None for none.

    Raises:
        TaskError: a calibration that was made for another detector, or costs without a calibration.
    """
    if calibration is not None:
        calibration.check(fitted.digest)
    elif costs is not None:
        raise TaskError("costs need a calibration, which says how usual a score is among ID images: calibrate first")
    scores = evidence.scores.tolist()
    outside = evidence.own_rule if calibration is None else calibration.is_ood(scores)
    classes = fitted.nearest(images, max(top, 1), scale)
    p_values = calibration.p_values(scores).tolist() if calibration else [None] * len(images)
    results = []
    for row, (name, score) in enumerate(zip(names, scores, strict=True)):
        decision, reason = _decide(score, calibration, None if outside is None else bool(outside[row]))
        action, action_reason = None, ""
        p_value = p_values[row]
        if calibration is not None and costs is not None and p_value is not None:
            action, action_reason = act(p_value, classes[row][0][1], calibration.keep, costs)
        results.append(
            ImageResult(
                image=name,
                score=score,
                decision=decision,
                reason=reason,
                threshold=calibration.threshold if calibration else None,
                p_value=p_value,
                classes=tuple(Nearest(*pair) for pair in classes[row][:top]),
                negatives=tuple(Nearest(*pair) for pair in evidence.negatives[row][:top]),
                action=action,
                action_reason=action_reason,
            )
        )
    return results


def by_threshold(score: float, threshold: float, outside: bool, whose: str = "") -> tuple[Decision, str]:
    """The decision and its reason where a threshold decides; `whose` is added to the reason."""
    side = "above" if outside else "not above"
    return ("out" if outside else "in"), f"score {score:.4g} is {side} the threshold {threshold:.4g}{whose}"


def _decide(score: float, calibration: Calibration | None, outside: bool | None) -> tuple[Decision | None, str]:
    """The decision and its reason; `outside` is None without a calibration or a rule of the method's own."""
    if outside is None:
        return None, UNCALIBRATED
    if calibration is not None:
        return by_threshold(score, calibration.threshold, outside)
    return ("out" if outside else "in"), "by the method's own threshold-free rule"
