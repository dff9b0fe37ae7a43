"""The plots of the reports."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes

from vlm_ood.metrics import roc_curve
from vlm_ood.report.svg import IN, INK, LINE, MUTED, OUT, new_axes, series_colour, to_svg

Scores = Float[np.ndarray, " _"]


def strip(scores: Sequence[float], out: Sequence[bool | None], threshold: float | None, width: int) -> Markup:
    """A dot plot of the scores: one dot per image, stacked where scores are close, with the threshold as a line.

    Args:
        scores: higher is more OOD.
        out: whether each image is OOD; None without a decision.
        threshold: the score above which an image is OOD, or None.
        width: of the plot, in CSS pixels.
    """
    columns = width // 11
    column, level = _pile(np.asarray(scores, dtype=np.float64), columns)
    highest = max(int(level.max(initial=0)) + 1, 4)
    figure, axes = new_axes(width, min(70 + 11 * highest, 240))
    colours = [{True: OUT, False: IN, None: MUTED}[each] for each in out]
    axes.scatter(column, level, s=min(64.0, 64.0 * (15 / highest) ** 2), c=colours, linewidths=0)
    axes.set_ylim(-1, highest + 0.8)
    axes.set_yticks([])
    axes.set_xlabel("score (higher is more out-of-distribution)")
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "threshold",
            (threshold, 1),
            (5, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color=INK,
            fontsize=11,
        )
    return to_svg(figure, f"Scores of {len(scores)} images")


def _pile(scores: Scores, columns: int) -> tuple[Scores, Scores]:
    """(n,) and (n,): each score rounded to a column, and the number of dots below it in that column."""
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 0.0)
    step = (high - low) / columns or 1.0
    column = np.round((scores - low) / step)
    order = np.argsort(column, kind="stable")
    first = np.searchsorted(column[order], column[order])
    level = np.empty(len(scores))
    level[order] = np.arange(len(scores)) - first
    return low + column * step, level


def histogram(id_scores: Scores, ood_scores: Mapping[str, Scores], label: str) -> Markup:
    """Histograms of the scores of the ID images and of each OOD set; the bars of each set add up to 1.

    Args:
        id_scores: (n,), higher is more OOD.
        ood_scores: {name of the set: scores}.
        label: the title for screen readers.
    """
    figure, axes = new_axes(440, 260)
    sets = [id_scores, *ood_scores.values()]
    edges = _edges(np.concatenate(sets), bins=int(np.clip(3 * np.sqrt(min(map(len, sets))), 16, 48)))
    _area(axes, id_scores, edges, IN, fill=0.28)
    for row, scores in enumerate(ood_scores.values()):
        _area(axes, scores, edges, series_colour(row), fill=0.10)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("score (higher is more out-of-distribution)")
    return to_svg(figure, label)


def _edges(scores: Scores, bins: int) -> Scores:
    """Edges of equal bins from the 0.2 % to the 99.8 % quantile; scores outside are counted in the outer bins."""
    low, high = np.quantile(scores, [0.002, 0.998])
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def _area(axes: Axes, scores: Scores, edges: Scores, colour: str, fill: float) -> None:
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    axes.stairs(counts / len(scores), edges, fill=True, color=colour, alpha=fill, linewidth=0)
    axes.stairs(counts / len(scores), edges, color=colour, linewidth=1.5)


def roc(id_scores: Scores, ood_scores: Mapping[str, Scores], label: str) -> Markup:
    """ROC curves, one per OOD set: the share of ID images accepted over the share of OOD images accepted.

    Args:
        id_scores: (n,), higher is more OOD.
        ood_scores: {name of the set: scores}.
        label: the title for screen readers.
    """
    figure, axes = new_axes(440, 260, frame="bottom left")
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    axes.axhline(0.95, color=LINE, linewidth=1, linestyle=(0, (2, 3)))
    for row, scores in enumerate(ood_scores.values()):
        accepted_ood, accepted_id = roc_curve(id_scores, scores)
        axes.plot(accepted_ood, accepted_id, color=series_colour(row), linewidth=1.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="OOD accepted")
    axes.set_ylabel("ID accepted", labelpad=10)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.95], ["0", "25 %", "50 %", "75 %", "95 %"])
    return to_svg(figure, label)
