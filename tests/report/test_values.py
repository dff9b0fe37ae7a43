"""What people read in a report, by value: the cells and the bold ones, intervals, mistakes, curves, bars and dots."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.report.test_evaluation import evaluation
from vlm_ood.evaluation import Comparison, Evaluation
from vlm_ood.metrics import Interval, auroc
from vlm_ood.report import plots, write_evaluation_report, write_score_report
from vlm_ood.report.evaluation import shown
from vlm_ood.report.page import percent
from vlm_ood.report.svg import IN, INK, MUTED, OUT, series_colour
from vlm_ood.results import ImageResult

COLUMNS = ("auroc", "fpr_at_95_id", "aupr_in", "aupr_out")
FIGURES = dict.fromkeys((*COLUMNS, "fpr_at_95_nearest", "fpr_at_95_ood", "detection_accuracy"), 0.5)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn, before it becomes SVG."""
    drawn: list[Figure] = []

    def keep(figure: Figure, label: str) -> Markup:
        drawn.append(figure)
        return Markup(escape(label))  # noqa: S704 (escaped)

    monkeypatch.setattr(plots, "to_svg", keep)
    return drawn


def compared(method: str, ood: str, intervals: bool = False, **figures: float) -> Comparison:
    values = FIGURES | figures
    around = {name: Interval(value, value - 0.1, value + 0.05) for name, value in values.items() if intervals}
    return Comparison(method, ood, **values, intervals=around)


def with_figures(*comparisons: Comparison) -> Evaluation:
    return replace(evaluation(), comparisons=comparisons)


def rows_of(html: str) -> dict[tuple[str, str], list[str]]:
    """{(set, method): the four cells as they are written}."""
    table = html[html.index("<table>") : html.index("</table>")]
    rows = {}
    for body in table.split("<tbody>")[1:]:
        ood = re.findall(r'scope="rowgroup" colspan="5">(.*?) <span', body)[0]
        for row in re.findall(r"<tr><td>.*?</tr>", body, flags=re.DOTALL):
            method, *cells = re.findall(r"<td>(.*?)</td>", row, flags=re.DOTALL)
            rows[ood, method] = cells
    return rows


def test_each_cell_is_its_figure_and_the_best_of_each_column_is_bold(tmp_path: Path) -> None:
    done = with_figures(
        compared("mcm", "far", auroc=0.91, fpr_at_95_id=0.4, aupr_in=0.8, aupr_out=0.7),
        compared("max_cosine", "far", auroc=0.9, fpr_at_95_id=0.3, aupr_in=0.81, aupr_out=0.7),
        compared("mcm", "half", auroc=0.2, fpr_at_95_id=1.0, aupr_in=0.0, aupr_out=0.1),
        compared("max_cosine", "half", auroc=0.3, fpr_at_95_id=0.0, aupr_in=1.0, aupr_out=0.2),
    )

    rows = rows_of(write_evaluation_report(tmp_path, done).read_text())

    assert rows == {
        ("far", "mcm"): ["<b>91.0</b>", "40.0", "80.0", "<b>70.0</b>"],
        ("far", "max_cosine"): ["90.0", "<b>30.0</b>", "<b>81.0</b>", "<b>70.0</b>"],
        ("half", "mcm"): ["20.0", "100.0", "0.0", "10.0"],
        ("half", "max_cosine"): ["<b>30.0</b>", "<b>0.0</b>", "<b>100.0</b>", "<b>20.0</b>"],
        ("mean of the sets", "mcm"): ["55.5", "70.0", "40.0", "40.0"],
        ("mean of the sets", "max_cosine"): ["<b>60.0</b>", "<b>15.0</b>", "<b>90.5</b>", "<b>45.0</b>"],
    }


def test_each_interval_is_that_of_its_own_figure(tmp_path: Path) -> None:
    done = with_figures(
        compared("mcm", "far", intervals=True, auroc=0.9, fpr_at_95_id=0.4, aupr_in=0.8, aupr_out=0.7),
        compared("max_cosine", "far", auroc=0.2),
    )

    rows = rows_of(write_evaluation_report(tmp_path, replace(done, ood_sets=done.ood_sets[:1])).read_text())

    assert [re.sub("</?b>", "", cell) for cell in rows["far", "mcm"]] == [
        "90.0<small>80.0–95.0</small>",
        "40.0<small>30.0–45.0</small>",
        "80.0<small>70.0–85.0</small>",
        "70.0<small>60.0–75.0</small>",
    ]
    assert not any("<small>" in cell for cell in rows["far", "max_cosine"])


def test_the_page_of_an_evaluation_shows_its_figures_and_intervals(tmp_path: Path) -> None:
    done = evaluation(bootstrap=20)

    rows = rows_of(write_evaluation_report(tmp_path, done).read_text())

    assert len(done.comparisons) == 4
    for each in done.comparisons:
        ood = next(scored for scored in done.ood_sets if scored.name == each.ood)
        assert each.auroc == auroc(done.id_set.scores[each.method], ood.scores[each.method])
        for name, cell in zip(COLUMNS, rows[each.ood, each.method], strict=True):
            interval = each.intervals[name]
            assert re.sub("</?b>", "", cell) == (
                f"{percent(getattr(each, name))}<small>{percent(interval.low)}–{percent(interval.high)}</small>"
            )


@given(st.integers(0, 2000), st.integers(-1, 1))
def test_values_that_look_equal_are_equally_good(halves: int, step: int) -> None:
    """AUROC comes in steps of half a pair; 0.0015 and 0.0012 are both written 0.1."""
    value = halves / 2000
    other = min(max(value + step * 0.0003, 0.0), 1.0)
    assert (percent(value) == percent(other)) == (shown(value) == shown(other))


def test_two_methods_that_look_equal_are_both_bold(tmp_path: Path) -> None:
    done = with_figures(compared("mcm", "far", auroc=0.0015), compared("max_cosine", "far", auroc=0.0012))

    rows = rows_of(write_evaluation_report(tmp_path, replace(done, ood_sets=done.ood_sets[:1])).read_text())

    assert percent(0.0015) == percent(0.0012)
    assert [rows["far", method][0] for method in ("mcm", "max_cosine")] == [f"<b>{percent(0.0015)}</b>"] * 2


def test_the_lede_and_the_sections_begin_with_the_best_mean(tmp_path: Path) -> None:
    done = with_figures(compared("mcm", "far", auroc=0.25), compared("max_cosine", "far", auroc=0.75))

    html = write_evaluation_report(tmp_path, done).read_text()

    assert re.findall(r"<summary><h3>(.*?)</h3><span class=\"quiet\">AUROC (.*?) ·", html) == [
        ("max_cosine", "75.0"),
        ("mcm", "25.0"),
    ]
    assert re.search(r"<strong>max_cosine</strong> separates best, with a mean AUROC of\s+<strong>75.0 %", html)


def test_mistakes_are_the_highest_id_and_the_lowest_ood_scores_and_ties_keep_their_order(tmp_path: Path) -> None:
    done = evaluation()
    flat = np.repeat([0.5, 0.25], 10)  # ten images at each score
    id_set = replace(done.id_set, scores=dict.fromkeys(done.methods, flat))
    ood_sets = tuple(replace(each, scores={m: flat[: len(each)] for m in done.methods}) for each in done.ood_sets)

    html = write_evaluation_report(tmp_path, replace(done, id_set=id_set, ood_sets=ood_sets)).read_text()

    galleries = html.split('<div class="mistakes">')[1:]
    captions = [
        re.findall(r"<figcaption>(.*?)(?:<span>like .*?</span>)?<span>(.*?)</span>", each) for each in galleries
    ]
    id_mistakes, ood_mistakes = captions[0], captions[1]
    assert [score for _, score in id_mistakes] == ["0.5000"] * 10 + ["0.2500"] * 2
    classes = [done.classes[int(label)] for label in done.id_set.labels]
    assert [label for label, _ in id_mistakes] == [classes[row] for row in (*range(10), 10, 11)]
    assert ood_mistakes == [(f"{row}.png", "0.2500") for row in range(10, 20)] + [
        ("0.png", "0.5000"),
        ("1.png", "0.5000"),
    ]


def test_a_roc_curve_is_the_share_of_id_over_the_share_of_ood_at_every_score(figures: list[Figure]) -> None:
    """ID 1, 2, 2 and OOD 2, 3: at most 1 are a third of ID; at most 2, a tie, all of ID and half of OOD."""
    plots.roc(np.array([2.0, 1.0, 2.0]), {"near": np.array([3.0, 2.0]), "far": np.array([4.0, 4.0])}, "curves")

    axes = figures[0].axes[0]
    diagonal, at_95, near, far = axes.lines
    assert np.array(diagonal.get_data()).tolist() == [[0, 1], [0, 1]]
    assert set(np.ravel(at_95.get_ydata())) == {0.95}
    assert np.array(near.get_data()).T.tolist() == [[0, 0], [0, pytest.approx(1 / 3)], [0.5, 1], [1, 1]]
    assert np.array(far.get_data()).T.tolist() == [[0, 0], [0, pytest.approx(1 / 3)], [0, 1], [1, 1]]
    assert [line.get_color() for line in (near, far)] == [series_colour(0), series_colour(1)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("OOD accepted", "ID accepted")
    assert axes.get_xlim() == (0, 1)
    assert axes.get_ylim()[0] == 0
    ticks = list(zip(axes.get_yticks(), [tick.get_text() for tick in axes.get_yticklabels()], strict=True))
    assert ticks == [(0, "0"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (0.95, "95 %")]


def test_bars_of_each_set_add_up_to_one_and_lie_where_its_scores_do(figures: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    id_scores, far = rng.uniform(0, 1, 400), rng.uniform(2, 3, 100)

    plots.histogram(id_scores, {"far": far}, "scores")

    steps: list[Any] = [area.get_data() for area in figures[0].axes[0].patches]  # type: ignore[attr-defined]
    areas = [(step.values, step.edges) for step in steps]
    assert len(areas) == 4  # of each set the fill and the line
    for (values, edges), scores in zip(areas, (id_scores, id_scores, far, far), strict=True):
        assert values.sum() == pytest.approx(1)
        middle = (edges[:-1] + edges[1:]) / 2
        assert (values * middle).sum() == pytest.approx(scores.mean(), abs=np.diff(edges)[0])
    assert len(areas[0][0]) == 30  # 3 sqrt(100)


@pytest.mark.parametrize("threshold", [0.5, None])
def test_a_dot_lies_at_its_score_in_the_colour_of_its_decision(figures: list[Figure], threshold: float | None) -> None:
    plots.strip([0.0, 1.0, 0.25, 1.0], [False, True, None, True], threshold, 1100)

    axes = figures[0].axes[0]
    dots: Any = axes.collections[0]
    assert dots.get_offsets().tolist() == [[0, 0], [1, 0], [0.25, 0], [1, 1]]
    assert [to_hex(colour) for colour in dots.get_facecolors()] == [IN, OUT, MUTED, OUT]
    lines = [(set(np.ravel(line.get_xdata())), line.get_color()) for line in axes.lines]
    assert lines == ([] if threshold is None else [({0.5}, INK)])
    assert [text.get_text() for text in axes.texts] == ([] if threshold is None else ["threshold"])


def test_bars_and_marks_lie_where_score_and_threshold_do(tmp_path: Path) -> None:
    """Of scores from -2 to 2 the threshold -1 is at a quarter; an image that failed has no bar."""
    results = [
        ImageResult("low", -2.0, "in", threshold=-1.0),
        ImageResult("high", 2.0, "out", threshold=-1.0),
        ImageResult("middle", 0.0, "out", threshold=-1.0),
        ImageResult("failed", error="empty file"),
    ]

    html = write_score_report(tmp_path, results, {}, title="", facts={}).read_text()

    assert re.findall(r'class="(in|out)" style="width: (.*?)"', html) == [
        ("out", "100.00%"),
        ("out", "50.00%"),
        ("in", "0.00%"),
    ]
    assert re.findall(r'<u style="left: (.*?)">', html) == ["25.00%"] * 3


def test_the_highest_five_hundred_have_a_card_and_all_are_counted(tmp_path: Path) -> None:
    results = [ImageResult(f"{row}.png", float(row), "in") for row in range(502)]

    html = write_score_report(tmp_path, results, {}, title="", facts={}).read_text()

    assert re.findall(r"<h3>(.*?)</h3>", html) == [f"{row}.png" for row in range(501, 1, -1)]
    assert "502" in html
