"""How the papers turn a lexicon into candidates: which files, which prompts, and what keeps a candidate out.

NegLabel: Jiang et al., ICLR 2024, arXiv 2403.20078. CSP: Chen et al., "Conjugated Semantic Pool Improves OOD Detection
with Pre-trained Vision-Language Models", NeurIPS 2024, arXiv 2410.08611.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlm_ood.errors import UnknownNameError
from vlm_ood.lexicons import PartOfSpeech, superclasses
from vlm_ood.text.templates import Templates, templates_named

AnyTemplates = str | Sequence[str] | Templates


@dataclass(frozen=True)
class Recipe:
    """From words to candidates.

    Args:
        name: of the paper's method.
        templates: of nouns and of adjectives; the class names had those of nouns in the papers.
        without: lexicographer files that are left out.
        superclasses: generic nouns, one of which each adjective describes; none where adjectives stand alone.
        max_cosine: candidates that are more like a class than this are never kept.
    """

    name: str
    templates: Mapping[PartOfSpeech, Templates]
    without: tuple[str, ...] = ()
    superclasses: tuple[str, ...] = ()
    max_cosine: float = float("inf")

    def phrase(self, word: str, part: PartOfSpeech, seed: int) -> str:
        """What goes into the templates: the word, or for CSP's adjectives "orange scene".

        The noun depends on word and seed alone, so that it stays when the lexicon changes.
        """
        if part == "noun" or not self.superclasses:
            return word
        drawn = int.from_bytes(hashlib.sha256(f"{seed} {word}".encode()).digest()[:8], "big")
        return f"{word} {self.superclasses[drawn % len(self.superclasses)]}"

    def changed(
        self, nouns: AnyTemplates | None, adjectives: AnyTemplates | None, max_cosine: float | None
    ) -> "Recipe":
        """The recipe with other templates or another limit where they are given."""
        templates = dict(self.templates)
        if nouns is not None:
            templates["noun"] = templates_named(nouns)
        if adjectives is not None:
            templates["adj"] = templates_named(adjectives)
        return replace(self, templates=templates, max_cosine=self.max_cosine if max_cosine is None else max_cosine)


def recipe_names() -> tuple[str, ...]:
    """What `recipe_named` knows."""
    return ("neglabel", "csp")


def recipe_named(name: str) -> Recipe:
    """The recipe of a paper.

    Raises:
        UnknownNameError: no such recipe.
    """
    if name == "neglabel":
        return Recipe(
            name, {"noun": Templates(("the nice {}",), name), "adj": Templates(("This is a {} photo",), name)}
        )
    if name == "csp":
        return Recipe(
            name,
            {"noun": _csp(CSP_NOUNS), "adj": _csp(CSP_ADJECTIVES)},
            without=("noun.person", "noun.quantity", "noun.group", "adj.pert"),
            superclasses=superclasses(),
            max_cosine=0.95,
        )
    raise UnknownNameError("recipe", name, recipe_names())


CSP_NOUNS = (
    "{}",
    "the {}",
    "the good {}",
    "the nice {}",
    "a photo of the nice {}.",
    "a photo with the nice {}.",
    "a good photo with the nice {}.",
    "a close-up photo of the nice {}.",
)
CSP_ADJECTIVES = ("{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}")


def _csp(templates: tuple[str, ...]) -> Templates:
    return Templates(templates, "csp", average="mean_first")
