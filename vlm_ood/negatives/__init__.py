"""Negative words: mined from a lexicon as those least like the classes."""

from vlm_ood.negatives.mine import Mining, MiningPlan, mine, mine_negatives, open_lexicon
from vlm_ood.negatives.recipes import Recipe, check_draw, recipe_named, recipe_names
from vlm_ood.negatives.report import MiningReport, report
from vlm_ood.negatives.select import select_negatives

__all__ = [
    "Mining",
    "MiningPlan",
    "MiningReport",
    "Recipe",
    "check_draw",
    "mine",
    "mine_negatives",
    "open_lexicon",
    "recipe_named",
    "recipe_names",
    "report",
    "select_negatives",
]
