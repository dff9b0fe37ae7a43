"""Evaluation of methods on ID and OOD sets: features, scores, figures, tables."""

from vlm_ood.evaluation.evaluate import evaluate
from vlm_ood.evaluation.methods import available_methods, parse_method
from vlm_ood.evaluation.records import Comparison, Evaluation, FeatureSet, Part, ScoredSet

__all__ = [
    "Comparison",
    "Evaluation",
    "FeatureSet",
    "Part",
    "ScoredSet",
    "available_methods",
    "evaluate",
    "parse_method",
]
