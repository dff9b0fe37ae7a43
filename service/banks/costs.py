"""Counts and limits the prompts that go through the text encoder when banks are made."""

import asyncio
from collections.abc import Iterable

from service.settings import Settings
from vlm_ood.errors import LexiconError
from vlm_ood.tasks import BankSpec, MinedBank, TemplateBank


async def prompts_of(banks: Iterable[BankSpec | None]) -> int:
    """The prompts of all banks together, those of stored banks not counted."""
    return sum([await _prompts(bank) for bank in banks])


async def check_mined(bank: MinedBank, settings: Settings) -> MinedBank:
    """The bank, if its words make few enough prompts.

    A lexicon that ships is not limited with its recipe's own templates: its vectors are encoded once for all.

    Raises:
        InputError: the words or numbers can't be used.
        LexiconError: too many prompts.
    """
    if bank.templates is None and bank.words is None:
        return bank
    plan = await asyncio.to_thread(lambda: bank.plan)
    if plan.prompts > settings.max_prompts:
        raise LexiconError(
            f"{len(plan.lexicon):,} words make {plan.prompts:,} prompts, the limit is {settings.max_prompts:,}: "
            "give fewer words, or fewer templates"
        )
    return bank


async def _prompts(bank: BankSpec | None) -> int:
    if isinstance(bank, TemplateBank):
        return bank.prompts
    if isinstance(bank, MinedBank):
        plan = await asyncio.to_thread(lambda: bank.plan)  # reads a lexicon
        return plan.prompts + await _prompts(bank.classes)
    return 0
