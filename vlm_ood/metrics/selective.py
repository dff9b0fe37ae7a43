"""Figures of class predictions, and of how well scores tell the right ones from the wrong ones.

Selective prediction accepts images by score, the lowest first, and abstains from the others. An OOD image has no right
prediction: give it with `correct` 0 to measure misclassification and OOD together.
"""

import numpy as np
from jaxtyping import Float64, Int64

from vlm_ood.errors import ParameterError, VectorError
from vlm_ood.metrics.samples import Sample, as_sample, same_length, zeros_and_ones


def accuracy(predictions: Sample, labels: Sample) -> float:
    """The share of predictions that equal their label, in [0, 1].

    Args:
        predictions: (n,) class numbers.
        labels: (n,) class numbers.

    Raises:
        VectorError: no values, or other labels than predictions.
    """
    predicted, wanted = as_sample(predictions, "predictions"), as_sample(labels, "labels")
    same_length(predicted, wanted, "predictions and labels")
    return float((predicted == wanted).mean())


def risk_coverage_curve(scores: Sample, correct: Sample) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """The share of images accepted, and the share of wrong predictions among them, at every distinct score.

    Images are accepted by score, lowest first; equal scores make one point, and the last accepts all. Coverage times
    risk is the generalised risk of `augrc`: the share of all images that are accepted and wrong. Source: El-Yaniv and
    Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 2010.

    Args:
        scores: (n,), higher is more OOD.
        correct: (n,), whether each prediction was right; 0 and 1, or booleans.

    Returns:
        (coverage, risk), each of as many points as there are distinct scores, coverage rising to 1.

    Raises:
        VectorError: a sample that is empty or not finite, or samples of different length.
    """
    errors, images = _by_score(scores, correct)
    accepted = images.cumsum()
    return accepted / accepted[-1], errors.cumsum() / accepted


def aurc(scores: Sample, correct: Sample) -> float:
    """Area under the risk-coverage curve, in [0, 1], lower is better.

    Images are accepted by score, lowest first. The risk at coverage k / n is the share of wrong predictions among the
    first k; the area is its mean over k = 1, ..., n. Images of equal score are accepted in random order, and the result
    is the expectation over that order. Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural
    Networks", NeurIPS 2017, arXiv 1705.08500; the area as in Geifman et al., ICLR 2019, arXiv 1805.08206.

    Args:
        scores: (n,), higher is more OOD.
        correct: (n,), whether each prediction was right; 0 and 1, or booleans.

    Raises:
        VectorError: a sample that is empty or not finite, or samples of different length.
    """
    errors, images = _by_score(scores, correct)
    expected = (errors / images).repeat(images)
    return float((expected.cumsum() / np.arange(1, len(expected) + 1)).mean())


def e_aurc(scores: Sample, correct: Sample) -> float:
    """`aurc` less that of scores which put every right prediction before every wrong one; 0 is best.

    Source: Geifman et al., "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019,
    arXiv 1805.08206.

    Args:
        scores: (n,), higher is more OOD.
        correct: (n,), whether each prediction was right; 0 and 1, or booleans.

    Raises:
        VectorError: a sample that is empty or not finite, or samples of different length.
    """
    return aurc(scores, correct) - aurc(1 - zeros_and_ones(correct), correct)


def augrc(scores: Sample, correct: Sample) -> float:
    """Area under the generalised risk-coverage curve, in [0, 1/2], lower is better.

    The generalised risk is the share of all images that are accepted with a wrong prediction; its area over coverage is
    the mean risk that a wrong prediction goes undetected. Unlike `aurc` it doesn't weigh the errors of the few most
    confident images above all others. Between two scores the curve is a straight line, which is the expectation over
    the order of images of equal score. So the area is exactly e^2 / 2 + e (1 - e) (1 - a), with e the share of errors
    and a the `auroc` of wrong against right predictions. Source: Traub et al., "Overcoming Common Flaws in the
    Evaluation of Selective Classification Systems", NeurIPS 2024, arXiv 2407.01032.

    Args:
        scores: (n,), higher is more OOD.
        correct: (n,), whether each prediction was right; 0 and 1, or booleans.

    Raises:
        VectorError: a sample that is empty or not finite, or samples of different length.
    """
    coverage, risk = risk_coverage_curve(scores, correct)
    undetected = np.append(0.0, coverage * risk)
    return float(((undetected[1:] + undetected[:-1]) / 2 * np.diff(coverage, prepend=0.0)).sum())


def ece(confidences: Sample, correct: Sample, bins: int = 15) -> float:
    """Expected calibration error, in [0, 1], lower is better: how far confidences are from accuracies.

    The mean over images of |accuracy - mean confidence| of the bin that the image falls in. The bins are of equal
    width, each with its upper and without its lower edge, the first with both. Source: Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017, arXiv 1706.04599.

    Args:
        confidences: (n,) probabilities of the predicted classes, in [0, 1].
        correct: (n,), whether each prediction was right; 0 and 1, or booleans.
        bins: how many.

    Raises:
        VectorError: confidences outside [0, 1], or samples that are empty or of different length.
        ParameterError: fewer than one bin.
    """
    confidence, right = as_sample(confidences, "confidences"), zeros_and_ones(correct)
    same_length(confidence, right, "confidences and correct")
    if bins < 1:
        raise ParameterError(f"bins={bins}: give at least 1")
    outside = int(((confidence < 0) | (confidence > 1)).sum())
    if outside:
        raise VectorError(f"{outside} of {len(confidence)} confidences lie outside [0, 1]: give probabilities")
    place: Int64[np.ndarray, " n"] = np.searchsorted(np.arange(1, bins) / bins, confidence)
    return float(np.abs(np.bincount(place, weights=right - confidence)).sum() / len(right))


def _by_score(scores: Sample, correct: Sample) -> tuple[Float64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """How many predictions are wrong, and how many there are, at each distinct score, from the lowest up."""
    values, wrong = as_sample(scores, "scores"), 1 - zeros_and_ones(correct)
    same_length(values, wrong, "scores and correct")
    _, group, images = np.unique(values, return_inverse=True, return_counts=True)
    return np.bincount(group, weights=wrong), images
