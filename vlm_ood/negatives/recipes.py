"""How the papers turn a lexicon into candidates: which files, which prompts, and what excludes a candidate.

NegLabel: Jiang et al., ICLR 2024, arXiv 2403.20078. CSP: Chen et al., "Conjugated Semantic Pool Improves OOD Detection
with Pre-trained Vision-Language Models", NeurIPS 2024, arXiv 2410.08611.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlm_ood.errors import UnknownNameError
from vlm_ood.lexicons import PartOfSpeech, superclasses
from vlm_ood.text.templates import Templates, templates_named

AnyTemplates = str | Sequence[str] | Templates
DRAWS = ("by_word", "in_turn")
"""Of superclasses; `Recipe.phrases` explains them."""


@dataclass(frozen=True)
class Recipe:
    """From words to candidates.

    Args:
        name: of the paper's method.
        templates: of nouns and of adjectives; the class names had those of nouns in the papers.
        without: lexicographer files that are left out.
        superclasses: generic nouns, to one of which each adjective is attached; none where adjectives stand alone.
        max_cosine: candidates that are more like a class than this are never kept.
    """

    name: str
    templates: Mapping[PartOfSpeech, Templates]
    without: tuple[str, ...] = ()
    superclasses: tuple[str, ...] = ()
    max_cosine: float = float("inf")

    def phrases(self, words: Sequence[str], part: PartOfSpeech, seed: int, draw: str = "by_word") -> list[str]:
        """What goes into the templates, per word: the word itself, or for CSP's adjectives "orange scene".

        Args:
            words: of one part of speech, in the order of the lexicon.
            part: which.
            seed: of the draw of superclasses.
            draw: "by_word" takes each superclass from a hash of seed and word, so that it stays when the lexicon
                changes; "in_turn" draws them one after another from Python's generator, as the authors' code does.

        Raises:
            UnknownNameError: another draw.
        """
        check_draw(draw)
        if part == "noun" or not self.superclasses:
            return list(words)
        if draw == "in_turn":
            generator = random.Random(seed)  # noqa: S311
            return [f"{word} {generator.choice(self.superclasses)}" for word in words]
        return [f"{word} {self.superclasses[_hash(f'{seed} {word}') % len(self.superclasses)]}" for word in words]

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


def check_draw(draw: str) -> None:
    """Raise an UnknownNameError for a draw of superclasses that doesn't exist."""
    if draw not in DRAWS:
        raise UnknownNameError("draw of superclasses", draw, DRAWS)


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
            {"noun": templates_named("csp"), "adj": Templates(CSP_ADJECTIVES, name, average="mean_first")},
            without=("noun.person", "noun.quantity", "noun.group", "adj.pert"),
            superclasses=superclasses(),
            max_cosine=0.95,
        )
    raise UnknownNameError("recipe", name, recipe_names())


CSP_ADJECTIVES = ("{}", "a nice photo of {}", "a good photo of {}", "a close-up photo of {}")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
