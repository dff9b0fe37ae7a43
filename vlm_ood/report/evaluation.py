"""The report of `vlm-ood evaluate`: metrics, score histograms, ROC curves, and the worst errors as pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from markupsafe import Markup

from vlm_ood.evaluation.records import FIGURES, UNLABELLED, Comparison, Evaluation, ScoredSet
from vlm_ood.report.page import NOT_CLIP, percent, write_page
from vlm_ood.report.plots import histogram, roc
from vlm_ood.report.svg import SERIES
from vlm_ood.report.thumbnails import Thumbnail, thumbnails

MISTAKES: Final = 12  # ID images and as many OOD images, per method
ERRORS: Final = 200  # shown by name; the others are counted
SMALL: Final = 200  # pixels of the longer side

Pictures = Mapping[str, Mapping[str, Path]]


@dataclass(frozen=True)
class Mistake:
    """An ID image with a high score, or an OOD image with a low one.

    Args:
        set_name: name of the image's set.
        image: its name in that set.
        score: higher is more OOD.
        nearest: the class with the largest cosine.
        label: the true class, "" when unknown.
    """

    set_name: str
    image: str
    score: float
    nearest: str
    label: str

    @property
    def key(self) -> tuple[str, str]:
        """(set, image), the key of its picture."""
        return self.set_name, self.image


@dataclass(frozen=True)
class Table:
    """One OOD set: a row per method, and the best value of each metric."""

    ood: str
    images: int | None
    left_out: int
    rows: tuple[Comparison, ...]
    best: Mapping[str, float]


@dataclass(frozen=True)
class Section:
    """One method: its mean over the OOD sets, its plots and its worst errors."""

    mean: Comparison
    histogram: Markup
    roc: Markup
    id_mistakes: tuple[Mistake, ...]
    ood_mistakes: tuple[Mistake, ...]


def write_evaluation_report(
    folder: Path,
    evaluation: Evaluation,
    pictures: Pictures | None = None,
    *,
    title: str = "Evaluation",
    facts: Mapping[str, str] | None = None,
    note: str | None = None,
) -> Path:
    """Write the report of an evaluation to `folder/index.html`; the page loads nothing from elsewhere.

    Args:
        folder: made when absent.
        evaluation: the result.
        pictures: {name of a set: {image: its file}}; an image without a file is shown by name alone.
        title: heading of the page.
        facts: what the metrics depend on, such as {"encoder": "embedded", "templates": "single"}.
        note: a warning shown at the top; by default that the embedded encoder is not CLIP, where it was used.

    Returns:
        The path of the page.

    Raises:
        StorageError: the page can't be written.
    """
    facts = dict(facts or {})
    if note is None and facts.get("encoder") == "embedded":
        note = NOT_CLIP
    means = sorted(evaluation.means(), key=lambda mean: mean.auroc, reverse=True)
    sections = [_section(evaluation, mean) for mean in means]
    mistakes = [each for section in sections for each in (*section.id_mistakes, *section.ood_mistakes)]
    errors = [
        (each.name, *error) for each in (evaluation.id_set, *evaluation.ood_sets) for error in each.errors.items()
    ]
    return write_page(
        Path(folder),
        "evaluation.html",
        title=title,
        facts=facts | _sizes(evaluation),
        note=note,
        evaluation=evaluation,
        used=[each for each in evaluation.ood_sets if len(each)],
        tables=_tables(evaluation),
        sections=sections,
        pictures=_pictures(mistakes, pictures or {}),
        errors=errors[:ERRORS],
        more_errors=max(0, len(errors) - ERRORS),
        series=SERIES,
        shown=shown,
    )


def _sizes(evaluation: Evaluation) -> dict[str, str]:
    ood = sum(len(each) for each in evaluation.ood_sets)
    return {"ID images": f"{len(evaluation.id_set):,}", "OOD images": f"{ood:,}"}


def _tables(evaluation: Evaluation) -> list[Table]:
    tables = [_table(each, evaluation.comparisons) for each in evaluation.ood_sets if len(each)]
    if len(tables) > 1:
        tables.append(Table("mean of the sets", None, 0, evaluation.means(), _best(evaluation.means())))
    return tables


def _table(ood: ScoredSet, comparisons: Iterable[Comparison]) -> Table:
    rows = tuple(each for each in comparisons if each.ood == ood.name)
    return Table(ood.name, len(ood), len(ood.errors), rows, _best(rows))


def shown(value: float) -> float:
    """The value as the page prints it, in percent, so that values that look equal are both marked as best."""
    return float(percent(value))


def _best(rows: Sequence[Comparison]) -> dict[str, float]:
    """The best value of each metric: the lowest of the false positive rates, the highest of the others."""
    if len(rows) < 2:
        return dict.fromkeys(FIGURES, np.nan)
    return {
        name: (min if name.startswith("fpr") else max)(shown(getattr(row, name)) for row in rows) for name in FIGURES
    }


def _section(evaluation: Evaluation, mean: Comparison) -> Section:
    method = mean.method
    id_scores = evaluation.id_set.scores[method]
    ood_scores = {each.name: each.scores[method] for each in evaluation.ood_sets if len(each)}
    return Section(
        mean=mean,
        histogram=histogram(id_scores, ood_scores, f"Scores of {method}"),
        roc=roc(id_scores, ood_scores, f"ROC curves of {method}"),
        id_mistakes=_mistakes(evaluation, [evaluation.id_set], method, most_ood=True),
        ood_mistakes=_mistakes(evaluation, evaluation.ood_sets, method, most_ood=False),
    )


def _mistakes(evaluation: Evaluation, sets: Sequence[ScoredSet], method: str, *, most_ood: bool) -> tuple[Mistake, ...]:
    """The `MISTAKES` images of these sets with the highest scores, or with the lowest ones."""
    names, sign = evaluation.classes, -1 if most_ood else 1
    found = [
        Mistake(
            set_name=each.name,
            image=each.images[row],
            score=float(each.scores[method][row]),
            nearest=names[int(each.predicted[row])],
            label=names[int(each.labels[row])] if each.labels[row] != UNLABELLED else "",
        )
        for each in sets
        for row in np.argsort(sign * each.scores[method], kind="stable")[:MISTAKES].tolist()
    ]
    return tuple(sorted(found, key=lambda mistake: sign * mistake.score)[:MISTAKES])


def _pictures(mistakes: Iterable[Mistake], pictures: Pictures) -> dict[tuple[str, str], Thumbnail]:
    wanted = dict.fromkeys(mistake.key for mistake in mistakes)
    return thumbnails({key: pictures[key[0]][key[1]] for key in wanted if key[1] in pictures.get(key[0], {})}, SMALL)
