import re
from collections.abc import Callable
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from markupsafe import Markup

from vlm_ood.report.plots import _pile, histogram, roc, strip

ID = np.random.default_rng(0).normal(size=500)
OOD = {"far": ID + 3, "near": ID[:50] + 1}


def _unclosed(svg: str) -> list[str]:
    """Elements that are opened and never closed, or the other way round."""
    open_: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            open_.append(tag)

        def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert open_.pop() == tag

    Reader().feed(svg)
    return open_


@pytest.mark.parametrize(
    "draw",
    [
        lambda: strip([0.1, 0.2, 0.9], [False, None, True], 0.5, 400),
        lambda: histogram(ID, OOD, "scores"),
        lambda: roc(ID, OOD, "curves"),
    ],
)
def test_a_plot_is_well_formed_repeats_and_takes_its_colours_from_the_page(draw: Callable[[], Markup]) -> None:
    svg = draw()

    assert isinstance(svg, Markup)
    assert _unclosed(svg) == []
    assert "http" not in svg
    assert "var(--in)" in svg or "var(--series-0)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) <= {"#ffffff", "#000000"}
    assert draw() == svg


def test_plotting_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)

    roc(ID, OOD, "curves")

    assert dict(mpl.rcParams) == before


def test_a_label_is_escaped() -> None:
    assert "&lt;script&gt;" in histogram(ID, {"<script>": ID}, "<script>")


def test_equal_scores_are_drawn() -> None:
    assert "<svg" in strip([1.0, 1.0], [None, None], None, 300)
    assert "<svg" in histogram(np.ones(3), {"far": np.ones(2)}, "equal")


def test_dots_of_one_column_stand_on_each_other() -> None:
    column, level = _pile(np.array([0.0, 10.0, 0.1, 10.0, 0.2]), columns=10)

    assert column.tolist() == [0, 10, 0, 10, 0]
    assert level.tolist() == [0, 0, 1, 1, 2]
