"""Renders a template to an HTML file."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vlm_ood.io.files import write_bytes

NOT_CLIP = (
    "The embedded encoder is not CLIP: it joins an ImageNet classifier and a sentence model in one space. "
    "The figures of a CLIP model will differ."
)


def write_page(folder: Path, template: str, **content: Any) -> Path:
    """Render a template to `folder/index.html`; a failed write leaves an older file as it was.

    Raises:
        StorageError: the file can't be written.
    """
    page = Path(folder) / "index.html"
    # Surrogates stand for bytes of a file name that are not UTF-8.
    write_bytes(page, _environment().get_template(template).render(**content).encode("utf-8", "replace"))
    return page


def number(value: float | None, digits: int = 4) -> str:
    """A number of `digits` significant digits with a true minus sign; a dash for None."""
    return "–" if value is None else f"{value:#.{digits}g}".replace("-", "\u2212")


def percent(value: float | None) -> str:
    """A fraction in [0, 1] as percent with one decimal; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vlm_ood.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent)
    return environment
