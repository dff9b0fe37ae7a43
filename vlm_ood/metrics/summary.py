"""The standard figures of one method on one pair of samples, for tables."""

from dataclasses import dataclass

from vlm_ood.metrics.ranking import (
    aupr_in,
    aupr_out,
    auroc,
    autc,
    detection_accuracy,
    fpr_at_ood_recall,
    fpr_at_tpr,
    tie_share,
)
from vlm_ood.metrics.samples import Sample


@dataclass(frozen=True)
class Summary:
    """A row of a table; each figure is what the function of its name returns.

    Args:
        auroc: higher is better.
        fpr_at_95_id: share of OOD accepted while at least 95 % of ID is accepted (`fpr_at_tpr`).
        fpr_at_95_ood: share of ID rejected while at least 95 % of OOD is caught (`fpr_at_ood_recall`).
        aupr_in: higher is better; depends on how many images are on each side.
        aupr_out: likewise.
        autc: lower is better.
        detection_accuracy: higher is better; at the best threshold for these very scores.
        tie_share: of all pairs, those with equal scores; far from 0, the figures depend on the treatment of ties.
        n_id: how many ID scores.
        n_ood: how many OOD scores.
    """

    auroc: float
    fpr_at_95_id: float
    fpr_at_95_ood: float
    aupr_in: float
    aupr_out: float
    autc: float
    detection_accuracy: float
    tie_share: float
    n_id: int
    n_ood: int


def summary(id_scores: Sample, ood_scores: Sample) -> Summary:
    """The standard figures of one method on one pair of samples.

    Args:
        id_scores: (n,), higher is more OOD.
        ood_scores: (m,), higher is more OOD.

    Raises:
        VectorError: a sample that is empty or not finite.
    """
    return Summary(
        auroc=auroc(id_scores, ood_scores),
        fpr_at_95_id=fpr_at_tpr(id_scores, ood_scores),
        fpr_at_95_ood=fpr_at_ood_recall(id_scores, ood_scores),
        aupr_in=aupr_in(id_scores, ood_scores),
        aupr_out=aupr_out(id_scores, ood_scores),
        autc=autc(id_scores, ood_scores),
        detection_accuracy=detection_accuracy(id_scores, ood_scores),
        tie_share=tie_share(id_scores, ood_scores),
        n_id=len(id_scores),
        n_ood=len(ood_scores),
    )
