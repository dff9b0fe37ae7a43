"""Sets of features through several methods, each set read once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from vlm_ood import metrics
from vlm_ood.detectors import Detector, FittedDetector
from vlm_ood.errors import InputError
from vlm_ood.evaluation.records import UNLABELLED, Comparison, Evaluation, FeatureSet, ScoredSet
from vlm_ood.types import ImageFeatures, Task

Labels = Int[np.ndarray, " n"]
Fitted = Mapping[str, FittedDetector[Any]]

MEASURES: Final = MappingProxyType(
    {
        "auroc": metrics.auroc,
        "fpr_at_95_id": metrics.fpr_at_tpr,
        "fpr_at_95_nearest": metrics.fpr_at_nearest_tpr,
        "fpr_at_95_ood": metrics.fpr_at_ood_recall,
        "aupr_in": metrics.aupr_in,
        "aupr_out": metrics.aupr_out,
        "detection_accuracy": metrics.detection_accuracy,
    }
)


def evaluate(
    methods: Mapping[str, Detector[Any]],
    task: Task,
    id_set: FeatureSet,
    ood_sets: Sequence[FeatureSet],
    *,
    bootstrap: int = 0,
    seed: int = 0,
    skipped: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score an ID set and OOD sets with every method and compare.

    Args:
        methods: {name in the result: detector}, at least one.
        task: the ID classes and what the methods need besides.
        id_set: ID images; labels, where known, give the accuracy.
        ood_sets: OOD images; at least one set, each with its own name. Their labels, if any, are not read: an OOD image
            is of none of the classes.
        bootstrap: resamplings for 95 % intervals; 0 for none.
        seed: of the resampling.
        skipped: methods left out and why, passed on to the result.

    Raises:
        InputError: no methods, doubled names, or no usable image on one of the two sides.
        TaskError, CapabilityError, VectorError: a method needs something that isn't there.
    """
    _check_names(methods, id_set, ood_sets)
    fitted = {name: detector.fit(task) for name, detector in methods.items()}
    scored_id = score_set(id_set, fitted, task)
    scored_ood = tuple(_unlabelled(score_set(each, fitted, task)) for each in ood_sets)
    _check_images(scored_id, scored_ood)
    known = _known(scored_id, len(task.classes))
    return Evaluation(
        methods=tuple(methods),
        classes=task.classes.names,
        id_set=scored_id,
        ood_sets=scored_ood,
        comparisons=tuple(
            compare(method, scored_id, ood, bootstrap=bootstrap, seed=seed)
            for ood in scored_ood
            if len(ood)
            for method in methods
        ),
        accuracy=metrics.accuracy(*known) if known else None,
        accuracy_interval=(
            metrics.bootstrap(metrics.accuracy, *known, resamples=bootstrap, seed=seed, paired=True)
            if known and bootstrap
            else None
        ),
        skipped=dict(skipped or {}),
    )


def score_set(features: FeatureSet, fitted: Fitted, task: Task) -> ScoredSet:
    """The scores of every method on a set, a part at a time."""
    images: list[str] = []
    errors: dict[str, str] = {}
    labels, predicted = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    scores = {name: [np.empty(0, np.float32)] for name in fitted}
    for part in features.parts:
        images += part.images
        errors |= part.errors
        if not len(part.features):
            continue
        labels.append(np.asarray(part.labels, np.int64))
        predicted.append(_nearest(part.features, task))
        for name, detector in fitted.items():
            scores[name].append(detector.score(part.features).cpu().numpy())
    return ScoredSet(
        name=features.name,
        images=tuple(images),
        labels=np.concatenate(labels),
        predicted=np.concatenate(predicted),
        scores={name: np.concatenate(parts) for name, parts in scores.items()},
        errors=errors,
    )


def _unlabelled(scored: ScoredSet) -> ScoredSet:
    return replace(scored, labels=np.full(len(scored), UNLABELLED))


def _nearest(images: ImageFeatures, task: Task) -> Labels:
    classes = task.classes.embeddings
    nearest: Labels = (images.pooled.to(classes.device) @ classes.T).argmax(dim=1).cpu().numpy()
    return nearest


def compare(method: str, id_set: ScoredSet, ood: ScoredSet, *, bootstrap: int = 0, seed: int = 0) -> Comparison:
    """Every figure of one method on one OOD set.

    Args:
        method: one that both sets were scored with.
        id_set: ID images.
        ood: OOD images, at least one.
        bootstrap: resamplings for 95 % intervals; 0 for none.
        seed: of the resampling.
    """
    id_scores, ood_scores = id_set.scores[method], ood.scores[method]
    intervals = {
        name: metrics.bootstrap(measure, id_scores, ood_scores, resamples=bootstrap, seed=seed)
        for name, measure in MEASURES.items()
        if bootstrap
    }
    figures = {name: measure(id_scores, ood_scores) for name, measure in MEASURES.items()}
    known = id_set.labels != UNLABELLED
    correct = id_set.predicted[known] == id_set.labels[known]
    rate = metrics.oscr(id_scores[known], correct, ood_scores) if len(correct) else None
    return Comparison(method, ood.name, **figures, oscr=rate, intervals=intervals)


def _check_names(methods: Mapping[str, Detector[Any]], id_set: FeatureSet, ood_sets: Sequence[FeatureSet]) -> None:
    if not methods:
        raise InputError("no method to evaluate: name one")
    if not ood_sets:
        raise InputError("no OOD set to compare with: give at least one")
    names = [each.name for each in (id_set, *ood_sets)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"sets with the same name: {', '.join(doubled)}; give each its own, NAME=PATH")


def _check_images(id_set: ScoredSet, ood_sets: Sequence[ScoredSet]) -> None:
    for side, sets in (("ID", [id_set]), ("OOD", ood_sets)):
        if not any(len(each) for each in sets):
            errors = [why for each in sets for why in each.errors.values()]
            why = f"{len(errors)} could not be used, the first because: {errors[0]}" if errors else "there are none"
            raise InputError(f"no usable {side} image: {why}")


def _known(id_set: ScoredSet, classes: int) -> tuple[Labels, Labels] | None:
    """Nearest class and label of the labelled ID images; None without any."""
    labels = id_set.labels
    known = labels != UNLABELLED
    if not known.any():
        return None
    if labels.max() >= classes or labels.min() < UNLABELLED:
        raise InputError(
            f"ID labels go from {labels.min()} to {labels.max()}, there are {classes} classes: labels are rows of the "
            "class bank, from 0, and -1 where unknown"
        )
    return id_set.predicted[known], labels[known]
