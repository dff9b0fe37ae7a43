"""An evaluation as plain values, as CSV, and per image."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from vlm_ood.evaluation.records import FIGURES, UNLABELLED, Comparison, Evaluation, ScoredSet


def to_plain(evaluation: Evaluation, facts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Lists, dictionaries, strings and finite numbers: what `json.dumps` takes.

    Args:
        evaluation: the result.
        facts: what it depends on, such as the encoder.
    """
    return {
        "facts": dict(facts or {}),
        "classes": list(evaluation.classes),
        "accuracy": evaluation.accuracy,
        "accuracy_interval": evaluation.accuracy_interval and asdict(evaluation.accuracy_interval),
        "id": _set(evaluation.id_set),
        "ood": [_set(each) for each in evaluation.ood_sets],
        "comparisons": [_comparison(each) for each in evaluation.comparisons],
        "means": [_comparison(each) for each in evaluation.means()],
        "skipped": dict(evaluation.skipped),
    }


def to_csv(evaluation: Evaluation) -> str:
    """One line per method and OOD set, and one per method for the mean over the sets; figures in [0, 1]."""
    counts = {each.name: each for each in evaluation.ood_sets}
    out = io.StringIO()
    writer = csv.writer(out)
    bounds = [f"{name}_{end}" for name in FIGURES for end in ("low", "high")]
    writer.writerow(["method", "ood", *FIGURES, "oscr", *bounds, "id_images", "ood_images", "ood_errors"])
    for each in (*evaluation.comparisons, *evaluation.means()):
        ood = counts.get(each.ood)
        figures = [getattr(each, name) for name in FIGURES]
        intervals = [each.intervals.get(name) for name in FIGURES]
        ends = [end for interval in intervals for end in ((interval.low, interval.high) if interval else ("", ""))]
        sizes = [len(evaluation.id_set), len(ood) if ood else "", len(ood.errors) if ood else ""]
        rate = "" if each.oscr is None else each.oscr
        writer.writerow([each.method, each.ood, *figures, rate, *ends, *sizes])
    return out.getvalue()


def scores_csv(evaluation: Evaluation) -> str:
    """One line per image: its set, its label, the nearest class, and the score of each method; errors at the end."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["set", "image", "label", "nearest", *evaluation.methods, "error"])
    for each in (evaluation.id_set, *evaluation.ood_sets):
        writer.writerows(_lines(each, evaluation))
        writer.writerows(
            [each.name, image, "", "", *[""] * len(evaluation.methods), why] for image, why in each.errors.items()
        )
    return out.getvalue()


def _lines(scored: ScoredSet, evaluation: Evaluation) -> Iterator[list[Any]]:
    names = evaluation.classes
    columns = [scored.scores[method].tolist() for method in evaluation.methods]
    for row, image in enumerate(scored.images):
        label = int(scored.labels[row])
        known = names[label] if label != UNLABELLED else ""
        yield [scored.name, image, known, names[int(scored.predicted[row])], *(column[row] for column in columns), ""]


def _set(scored: ScoredSet) -> dict[str, Any]:
    return {"name": scored.name, "images": len(scored), "errors": dict(scored.errors)}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    plain = asdict(comparison)
    return plain | {"intervals": {name: asdict(each) for name, each in comparison.intervals.items()}}
