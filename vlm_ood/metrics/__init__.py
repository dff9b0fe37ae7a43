"""Figures of merit. Every function takes scores that are higher for more OOD and returns Python floats.

Samples may be NumPy arrays, torch tensors of any float dtype and device, or sequences of numbers. They are compared as
given, in fp64: nothing is squashed, binned or rounded, so only equal scores tie. A sample that is empty, not finite or
not one-dimensional is a VectorError.
"""

from vlm_ood.metrics.bootstrap import Interval, bootstrap
from vlm_ood.metrics.ranking import (
    aupr_in,
    aupr_out,
    auroc,
    autc,
    detection_accuracy,
    fpr_at_nearest_tpr,
    fpr_at_ood_recall,
    fpr_at_tpr,
    oscr,
    roc_curve,
    tie_share,
)
from vlm_ood.metrics.selective import accuracy, augrc, aurc, e_aurc, ece, risk_coverage_curve
from vlm_ood.metrics.summary import Summary, summary

__all__ = [
    "Interval",
    "Summary",
    "accuracy",
    "augrc",
    "aupr_in",
    "aupr_out",
    "aurc",
    "auroc",
    "autc",
    "bootstrap",
    "detection_accuracy",
    "e_aurc",
    "ece",
    "fpr_at_nearest_tpr",
    "fpr_at_ood_recall",
    "fpr_at_tpr",
    "oscr",
    "risk_coverage_curve",
    "roc_curve",
    "summary",
    "tie_share",
]
