"""matplotlib figures as inline SVG that uses the colours and the font of the page."""

import io
import re
from typing import Final

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SERIES: Final = 6

# matplotlib has no CSS variables: each of these colours stands for one and is replaced in the text of the SVG.
INK, MUTED, LINE, IN, OUT = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", IN: "in", OUT: "out"}
_VARIABLES |= {f"#06060{row}": f"series-{row}" for row in range(SERIES)}

_METADATA = ("Date", "Creator", "Format", "Type")


def series_colour(row: int) -> str:
    """The colour of the row-th line of a plot; they repeat after `SERIES`."""
    return f"#06060{row % SERIES}"


def new_axes(width: int, height: int, *, frame: str = "bottom") -> tuple[Figure, Axes]:
    """A figure of `width` x `height` CSS pixels with one pair of axes, no ticks; `frame` names the spines to keep."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    axes = figure.add_subplot()
    for side, spine in axes.spines.items():
        spine.set_visible(side in frame.split())
        spine.set_color(LINE)
    axes.tick_params(length=0, labelsize=11, labelcolor=MUTED, pad=5)
    axes.xaxis.label.set(color=MUTED, size=11)
    axes.yaxis.label.set(color=MUTED, size=11)
    return figure, axes


def to_svg(figure: Figure, label: str) -> Markup:
    """The figure as an `<svg>` element; equal figures give equal bytes.

    Args:
        figure: drawn with the colours of this module.
        label: the title for screen readers.
    """
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vlm-ood"}):
        figure.savefig(content, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(<svg)[^>]*?(viewBox="[^"]*")[^>]*>', r"\1 \2 role='img'>", svg, count=1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub("|".join(_VARIABLES), lambda found: f"var(--{_VARIABLES[found.group()]})", svg)
    referenced = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found.group() if found.group(1) in referenced else "", svg)
    head, body = svg[: svg.index(">") + 1], svg[svg.index(">") + 1 :]
    return Markup(f"{head}<title>{escape(label)}</title>{body}")  # noqa: S704 - matplotlib escapes the texts it draws
