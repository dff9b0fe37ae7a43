"""Write the README's table of methods from the classes: `make docs`."""

import re
from pathlib import Path
from typing import Any, Final

from vlm_ood.detectors import describe, detector_names

README: Final = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- methods: made by `make docs` -->\n", "<!-- end of methods -->"
NEEDS: Final = {"negatives": "negative words", "no": "negated prompts", "support": "labelled images"}


def row(method: dict[str, Any]) -> str:
    """One line of the table: name, what it measures, paper, what it needs beyond class names."""
    needs = [NEEDS[part] for part in method["needs"]] + ["patches"] * method["needs_patches"]
    needs += [f"may use {NEEDS[part]}" for part in method["uses"] if part in NEEDS]
    return f"| `{method['name']}` | {method['summary']} | {paper(method['paper'])} | {', '.join(needs)} |"


def paper(full: str) -> str:
    """Authors and venue of "Authors, Title, Venue Year, arXiv:0000.00000", linked to arXiv where there is a number."""
    authors, *rest = full.split(", ")
    named = [part for part in rest if not part.startswith("arXiv")]
    venue = next((part for part in reversed(named) if re.search(r"\b(19|20)\d\d\b", part)), "")
    number = re.search(r"arXiv:(\d{4}\.\d{4,5})", full)
    name = ", ".join(filter(None, (authors, venue)))
    return f"[{name}](https://arxiv.org/abs/{number[1]})" if number else name


def table(names: list[str] | None = None) -> str:
    """The whole table, of all methods or of these."""
    head = "| name | what it measures | paper | needs |\n|---|---|---|---|\n"
    return head + "".join(row(describe(name)) + "\n" for name in names or detector_names())


def main() -> None:
    """Replace what stands between the markers."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    README.write_text(f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
