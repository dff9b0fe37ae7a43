"""From scores to answers: does this image belong, how sure is that, and what is it nearest to?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlm_ood.calibration import Calibration
from vlm_ood.detectors import FittedDetector
from vlm_ood.types import ImageFeatures

Decision = Literal["in", "out"]

UNCALIBRATED = "no calibration: a threshold needs scores of images that belong"


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
        threshold: the score above which an image is out; None without a calibration.
        p_value: conformal, in (0, 1]: the share of calibration images at least as odd; None without a calibration.
        classes: the nearest classes, best first.
        negatives: the negative words that pulled the image out, strongest first; empty for methods without them.
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
    error: str | None = None


def judge(
    fitted: FittedDetector[Any],
    names: Sequence[str],
    images: ImageFeatures,
    *,
    calibration: Calibration | None = None,
    top: int = 3,
    scale: float = 100.0,
) -> list[ImageResult]:
    """One answer an image, in order.

    Args:
        fitted: the detector.
        names: of the images.
        images: their features.
        calibration: of this very detector.
        top: how many classes and negatives to name.
        scale: what multiplies cosines before the softmax over classes; the encoder's own.

    Raises:
        TaskError: a calibration that belongs to another detector.
    """
    if not len(images):
        return []
    if calibration is not None:
        calibration.check(fitted.digest)
    scores = fitted.score(images).tolist()
    own_rule = fitted.decide(images)
    classes = fitted.nearest(images, top, scale)
    negatives = fitted.pulled_out_by(images, top)
    p_values = calibration.p_values(scores).tolist() if calibration else [None] * len(images)
    results = []
    for row, (name, score) in enumerate(zip(names, scores, strict=True)):
        decision, reason = _decide(score, calibration, None if own_rule is None else bool(own_rule[row]))
        results.append(
            ImageResult(
                image=name,
                score=score,
                decision=decision,
                reason=reason,
                threshold=calibration.threshold if calibration else None,
                p_value=p_values[row],
                classes=tuple(Nearest(*pair) for pair in classes[row]),
                negatives=tuple(Nearest(*pair) for pair in negatives[row]),
            )
        )
    return results


def _decide(score: float, calibration: Calibration | None, own_rule: bool | None) -> tuple[Decision | None, str]:
    if calibration is not None:
        out = score > calibration.threshold
        side = "above" if out else "at most"
        return ("out" if out else "in"), f"score {score:.4g} is {side} the threshold {calibration.threshold:.4g}"
    if own_rule is not None:
        return ("out" if own_rule else "in"), "by the method's own threshold-free rule"
    return None, UNCALIBRATED
