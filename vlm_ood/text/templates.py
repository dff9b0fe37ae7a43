"""Prompt templates: sentences with one placeholder for a name.

A set lives in `prompts/<name>.toml` with its source, licence and count; users pass their own lists as well.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from vlm_ood.errors import TemplateError, UnknownNameError
from vlm_ood.io.packaged import data_folder

PLACEHOLDER = "{}"

Average = Literal["normalise_first", "mean_first"]


@dataclass(frozen=True)
class Templates:
    """A set of templates, and how the vectors of their prompts become one vector per name.

    Args:
        templates: sentences with exactly one "{}" each, none given twice.
        name: of the set, "custom" for a user's own list.
        average: "normalise_first" brings each prompt's vector to length 1, averages and normalises again, as CLIP does;
            "mean_first" averages the raw outputs, as CSP and WinCLIP do.
        source: where the set is from.
        licence: of the source.

    Raises:
        TemplateError: none, no or several placeholders, doubles.
    """

    templates: tuple[str, ...]
    name: str = "custom"
    average: Average = "normalise_first"
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", tuple(self.templates))
        if not self.templates:
            raise TemplateError(f"template set {self.name!r} is empty: give at least one, such as 'a photo of a {{}}.'")
        for template in self.templates:
            if template.count(PLACEHOLDER) != 1 or set(template.replace(PLACEHOLDER, "")) & set("{}"):
                raise TemplateError(f"template {template!r} must hold exactly one {{}} and no other braces")
        doubled = sorted({template for template in self.templates if self.templates.count(template) > 1})
        if doubled:
            raise TemplateError(f"templates given twice: {', '.join(map(repr, doubled))}; each would weigh double")

    def __len__(self) -> int:
        return len(self.templates)

    def prompts(self, name: str) -> list[str]:
        """The sentences about one name, in the order of the templates."""
        return [template.replace(PLACEHOLDER, name) for template in self.templates]


def templates_named(templates: str | Sequence[str] | Templates) -> Templates:
    """Templates from a set's name, a list of sentences, or as they are.

    Raises:
        UnknownNameError: no set of that name in `prompts/`.
        TemplateError: a list that is not usable.
    """
    if isinstance(templates, Templates):
        return templates
    if not isinstance(templates, str):
        return Templates(tuple(templates))
    if PLACEHOLDER in templates:
        return Templates((templates,))
    if templates not in template_sets():
        raise UnknownNameError("template set", templates, template_sets())
    return _read(data_folder("prompts") / f"{templates}.toml")


@cache
def template_sets() -> tuple[str, ...]:
    """The names of the sets in `prompts/`, sorted."""
    return tuple(sorted(path.stem for path in data_folder("prompts").glob("*.toml")))


@cache
def _read(path: Path) -> Templates:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    templates = Templates(
        tuple(content["templates"]), path.stem, content["average"], content["source"], content["licence"]
    )
    if len(templates) != content["count"]:
        raise TemplateError(f"{path} says {content['count']} templates and holds {len(templates)}: correct the count")
    return templates
