"""Figures of how well scores separate ID from OOD images, over every threshold or at one."""

import math
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64

from vlm_ood.metrics.samples import Sample, as_sample, count_for, same_length, zeros_and_ones

Scores = Float64[np.ndarray, " n"]
Counts = Int64[np.ndarray, " thresholds"]


def auroc(id_scores: Sample, ood_scores: Sample) -> float:
    """P(ood > id) + P(ood = id) / 2 over all pairs, by ranks: exact, ties count half. 0.5 is chance, 1 is best.

    Which side is called positive doesn't matter. Source: Mann and Whitney, Ann. Math. Statist. 18(1), 1947.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    id_, ood = _both(id_scores, ood_scores)
    below, up_to = _pairs(id_, ood)
    return (below + up_to) / (2 * len(id_) * len(ood))


def tie_share(id_scores: Sample, ood_scores: Sample) -> float:
    """P(ood = id) over all pairs, in [0, 1]: how far the figures depend on what is done with ties.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    id_, ood = _both(id_scores, ood_scores)
    below, up_to = _pairs(id_, ood)
    return (up_to - below) / (len(id_) * len(ood))


def aupr_in(id_scores: Sample, ood_scores: Sample) -> float:
    """Average precision with ID as the positive side; chance is the share of ID in both samples together.

    The step sum of (R_k - R_(k-1)) * P_k over the distinct scores, lowest first: images of equal score are accepted
    together, nothing is interpolated.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    id_, ood = _both(id_scores, ood_scores)
    id_accepted, ood_accepted = _accepted(id_, ood)
    precision = id_accepted / (id_accepted + ood_accepted)
    return float(np.diff(id_accepted, prepend=0) @ precision / len(id_))


def aupr_out(id_scores: Sample, ood_scores: Sample) -> float:
    """Average precision with OOD as the positive side; chance is the share of OOD in both samples together.

    As `aupr_in`, but with the highest score first.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    id_, ood = _both(id_scores, ood_scores)
    return aupr_in(-ood, -id_)


def fpr_at_tpr(id_scores: Sample, ood_scores: Sample, tpr: float = 0.95) -> float:
    """The share of OOD accepted where at least `tpr` of ID is accepted: ID is the positive side. Lower is better.

    An image is accepted when score <= t. The threshold t is the tightest observed one: the k-th smallest ID score, with
    k the smallest count that is at least `tpr` of the ID images. It is never interpolated; a tie with it is accepted.

    ID is the positive side in the tables of MCM, NegLabel, CLIPN and LoCoOp, whose thresholds differ from this one
    (`fpr_at_nearest_tpr`, or interpolated); in OpenOOD's tables it is OOD (`fpr_at_ood_recall`).

    Raises:
        VectorError: a sample that is empty or not finite.
        ParameterError: `tpr` outside (0, 1].
    """
    id_, ood = _both(id_scores, ood_scores)
    last = count_for(tpr, len(id_), "tpr") - 1
    threshold = np.partition(id_, last)[last]
    return float((ood <= threshold).mean())


def fpr_at_nearest_tpr(id_scores: Sample, ood_scores: Sample, tpr: float = 0.95) -> float:
    """The share of OOD accepted where the share of ID accepted is nearest to `tpr`, above or below. Lower is better.

    This is the FPR@95 that the code of MCM, GL-MCM, NegLabel, CSP and LoCoOp prints. It may accept less than `tpr` of
    ID, and then looks better than `fpr_at_tpr`. Source: the evaluation code of Hendrycks et al., "Deep Anomaly
    Detection with Outlier Exposure", ICLR 2019, which they share.

    An image is accepted when score <= t, with t among all observed scores, ID and OOD. Of two recalls equally near the
    larger counts; of several t with one recall the largest, which accepts most OOD, but for a recall of 1 the smallest.

    Raises:
        VectorError: a sample that is empty or not finite.
        ParameterError: `tpr` outside (0, 1].
    """
    id_, ood = _both(id_scores, ood_scores)
    count_for(tpr, len(id_), "tpr")
    id_accepted, ood_accepted = _accepted(id_, ood)
    wanted = Fraction(str(float(tpr))) * len(id_)
    enough = int(np.searchsorted(id_accepted, math.ceil(wanted)))  # the first threshold with at least that recall
    if enough and wanted - int(id_accepted[enough - 1]) < int(id_accepted[enough]) - wanted:
        return float(ood_accepted[enough - 1] / len(ood))
    if id_accepted[enough] < len(id_):  # the last threshold with the same recall
        enough = int(np.searchsorted(id_accepted, id_accepted[enough], "right")) - 1
    return float(ood_accepted[enough] / len(ood))


def fpr_at_ood_recall(id_scores: Sample, ood_scores: Sample, recall: float = 0.95) -> float:
    """The share of ID rejected where at least `recall` of OOD is caught: OOD is the positive side. Lower is better.

    An image is caught when score >= t. The threshold t is the tightest observed one: the k-th largest OOD score, with k
    the smallest count that is at least `recall` of the OOD images. It is never interpolated; a tie with it is caught.

    OOD is the positive side in the tables of OpenOOD, pytorch-ood and oodeel.

    Raises:
        VectorError: a sample that is empty or not finite.
        ParameterError: `recall` outside (0, 1].
    """
    id_, ood = _both(id_scores, ood_scores)
    last = count_for(recall, len(ood), "recall") - 1
    threshold = -np.partition(-ood, last)[last]
    return float((id_ >= threshold).mean())


def detection_accuracy(id_scores: Sample, ood_scores: Sample) -> float:
    """The largest mean of the share of ID accepted and the share of OOD rejected, over all thresholds; in [0.5, 1].

    Both sides weigh the same, whatever their sizes; 0.5 is chance, and one minus it is ODIN's detection error. The
    threshold is chosen on the very scores it is measured on, so it is an upper bound of what a chosen one reaches.
    Source: Liang et al., "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks", ICLR
    2018, arXiv 1706.02690.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    ood_accepted, id_accepted = roc_curve(id_scores, ood_scores)
    return float((1 + id_accepted - ood_accepted).max() / 2)


def oscr(id_scores: Sample, correct: Sample, ood_scores: Sample) -> float:
    """Open-set classification rate, in [0, 1], higher is better: both jobs of a classifier that may reject.

    The area below the share of ID images that are accepted and classified correctly, over the share of OOD images
    accepted, for every threshold. It equals the accuracy times the `auroc` of the correctly classified ID images
    against the OOD images, so the accuracy is its upper bound, and it is 0 when no prediction is right. Source:
    Dhamija et al., "Reducing Network Agnostophobia", NeurIPS 2018, arXiv 1811.04110, for the curve.

    Args:
        id_scores: (n,), higher is more OOD.
        correct: (n,), whether the prediction for each ID image was right; 0 and 1, or booleans.
        ood_scores: (m,), higher is more OOD.

    Raises:
        VectorError: a sample that is empty or not finite, or ID scores and `correct` of different length.
    """
    id_, ood = _both(id_scores, ood_scores)
    right = zeros_and_ones(correct)
    same_length(id_, right, "ID scores and correct")
    if not right.any():
        return 0.0
    return float(right.mean()) * auroc(id_[right == 1], ood)


def autc(id_scores: Sample, ood_scores: Sample) -> float:
    """Area under the threshold curve, in [0, 1], lower is better; it measures how far the two sides lie apart.

    Source: Humblot-Renaux et al., "Beyond AUROC & co. for evaluating out-of-distribution detection performance",
    CVPR workshops 2023, arXiv 2306.14658: AUTC = (AUFPR + AUFNR) / 2, over thresholds t in [0, 1] on scores scaled to
    [0, 1] by the least and the largest of both samples. OOD is the positive side: FPR(t) is the share of ID above t,
    FNR(t) the share of OOD at or below t. Their integrals are means: AUFPR that of the scaled ID scores, AUFNR one
    minus that of the scaled OOD scores. So the area is exact, and 0.5 when all scores are equal. Unlike the other
    figures it changes with a monotone transform of the scores, and one outlier moves the scale.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    id_, ood = _both(id_scores, ood_scores)
    size = max(np.abs(id_).max(), np.abs(ood).max())
    if size == 0:
        return 0.5
    id_, ood = id_ / size, ood / size  # in [-1, 1], where no difference overflows
    least, largest = min(id_.min(), ood.min()), max(id_.max(), ood.max())
    if least == largest:
        return 0.5
    aufpr = ((id_ - least) / (largest - least)).mean()
    aufnr = ((largest - ood) / (largest - least)).mean()
    return float((aufpr + aufnr) / 2)


def roc_curve(id_scores: Sample, ood_scores: Sample) -> tuple[Scores, Scores]:
    """The share of OOD accepted and the share of ID accepted, at every distinct score from the lowest up.

    ID is the positive side, as in `fpr_at_tpr`. Equal scores make one point; the first is (0, 0), the last (1, 1).
    The trapezoids below it add up to `auroc`.

    Returns:
        (fpr, tpr), each of as many points as there are distinct scores, and one.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    id_, ood = _both(id_scores, ood_scores)
    id_accepted, ood_accepted = _accepted(id_, ood)
    return np.append(0.0, ood_accepted / len(ood)), np.append(0.0, id_accepted / len(id_))


def _both(id_scores: Sample, ood_scores: Sample) -> tuple[Scores, Float64[np.ndarray, " m"]]:
    return as_sample(id_scores, "ID scores"), as_sample(ood_scores, "OOD scores")


def _pairs(id_: Scores, ood: Float64[np.ndarray, " m"]) -> tuple[int, int]:
    """The number of pairs with id < ood, and with id <= ood."""
    id_, ood = np.sort(id_), np.sort(ood)  # both sorted: the search then runs through memory in order
    return int(np.searchsorted(id_, ood).sum()), int(np.searchsorted(id_, ood, side="right").sum())


def _accepted(id_: Scores, ood: Float64[np.ndarray, " m"]) -> tuple[Counts, Counts]:
    """How many ID and OOD images score at most each distinct score, from the lowest up."""
    thresholds = np.unique(np.concatenate([id_, ood]))
    return np.searchsorted(np.sort(id_), thresholds, "right"), np.searchsorted(np.sort(ood), thresholds, "right")
