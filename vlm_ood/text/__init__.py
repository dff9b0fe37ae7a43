"""Class names and words to banks of vectors: prompt templates, one average per name, one digest per bank."""

from vlm_ood.text.bank import BankCache, average_prompts, clean_names, text_bank
from vlm_ood.text.templates import Templates, template_sets, templates_named

__all__ = ["BankCache", "Templates", "average_prompts", "clean_names", "template_sets", "templates_named", "text_bank"]
