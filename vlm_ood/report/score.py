"""The report of `vlm-ood score`: one card per image, the highest score first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_ood.report.page import write_page
from vlm_ood.report.plots import strip
from vlm_ood.report.thumbnails import Thumbnail, thumbnails
from vlm_ood.results import ImageResult

MOST_CARDS: Final = 500  # a page of 500 pictures is about 10 MB


@dataclass(frozen=True)
class Card:
    """One image: its result, its picture, and the positions of its score and the threshold on the bar, in percent."""

    result: ImageResult
    picture: Thumbnail | None
    place: float
    threshold_place: float | None


def write_score_report(
    folder: Path,
    results: Sequence[ImageResult],
    pictures: Mapping[str, Path],
    *,
    title: str,
    facts: Mapping[str, str],
    note: str | None = None,
) -> Path:
    """Write scores, decisions, pictures and a plot to `folder/index.html`; the page loads nothing from elsewhere.

    Args:
        folder: made when absent.
        results: in any order; the page shows the highest score first and the images that failed last.
        pictures: {image: its file}; images without one get a card without a picture.
        title: heading of the page.
        facts: what the scores depend on, such as {"method": "mcm", "encoder": "embedded"}.
        note: a warning shown at the top.

    Returns:
        The path of the page.

    Raises:
        StorageError: the page can't be written.
    """
    scored = sorted((each for each in results if each.score is not None), key=_oddness, reverse=True)
    shown = scored[:MOST_CARDS]
    small = thumbnails({each.image: pictures[each.image] for each in shown if each.image in pictures})
    return write_page(
        Path(folder),
        "score.html",
        title=title,
        facts=facts,
        note=note,
        cards=_cards(shown, scored, small),
        scored=len(scored),
        out=sum(each.decision == "out" for each in scored),
        in_distribution=sum(each.decision == "in" for each in scored),
        failed=[each for each in results if each.score is None],
        plots={kind: _plot(scored, width) for kind, width in (("wide", 960), ("narrow", 340))} if scored else {},
    )


def _oddness(result: ImageResult) -> float:
    return 0.0 if result.score is None else result.score


def _cards(shown: Sequence[ImageResult], scored: Sequence[ImageResult], small: Mapping[str, Thumbnail]) -> list[Card]:
    marks = [_oddness(each) for each in scored] + [each.threshold for each in scored if each.threshold is not None]
    low, high = min(marks, default=0.0), max(marks, default=1.0)

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low) if high > low else 50.0

    return [
        Card(
            result=each,
            picture=small.get(each.image),
            place=place(_oddness(each)),
            threshold_place=None if each.threshold is None else place(each.threshold),
        )
        for each in shown
    ]


def _plot(scored: Sequence[ImageResult], width: int) -> str:
    out = [None if each.decision is None else each.decision == "out" for each in scored]
    return strip([_oddness(each) for each in scored], out, scored[0].threshold, width)
