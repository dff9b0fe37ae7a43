"""Runs library code that builds banks and detectors, in threads, with the engine as text encoder."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch

from service.banks.cache import MemoryBanks
from service.engine import EncoderInfo, Engine
from service.engine.text_port import EngineText
from service.threads import in_thread
from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.io.cache import DiskCache
from vlm_ood.negatives import Mining, MiningPlan, mine
from vlm_ood.tasks import Builder, Sources
from vlm_ood.types import TextBank

T = TypeVar("T")


@dataclass(frozen=True)
class Building:
    """Runs the work that builds banks and detectors.

    Args:
        engine: encodes text.
        threads: for tasks and detectors.
        mining: one thread, so that mining runs one at a time and does not block other work.
        banks: caches of banks made from templates.
        words: cache of the vectors of word lists. All tenants share those of the lexicons that ship, which take minutes
            to encode and tell nothing but that somebody mined; those of a tenant's own words serve it alone.
        limit_s: time limit for encoding all text of one call of `run`.
    """

    engine: Engine
    threads: ThreadPoolExecutor
    mining: ThreadPoolExecutor
    banks: MemoryBanks
    words: DiskCache
    limit_s: float

    async def run(
        self,
        tenant: str,
        encoder: EncoderInfo,
        sources: Sources,
        work: Callable[[Builder], T],
        *,
        mines: bool = False,
    ) -> T:
        """The result of `work`, which runs in a thread without gradients.

        Args:
            tenant: for whom.
            encoder: encodes the text.
            sources: the stored parts.
            work: called with a builder.
            mines: whether it mines negatives; then it runs in the mining thread.

        Raises:
            InputError: a part can't be used.
            EngineError: the engine can't answer now.
        """
        text = EngineText(self.engine, encoder, tenant, self.limit_s)
        mining = partial(_mined, self.words, tenant)
        builder = Builder(text, sources, banks=self.banks.of(tenant), mine=mining)
        return await in_thread(self.mining if mines else self.threads, lambda: _inferred(work, builder))


def _mined(
    words: DiskCache, tenant: str, encoder: TextEncoder, bank: TextBank, plan: MiningPlan, *, progress: Progress | None
) -> Mining:
    """Mine with the vectors that the tenant may share: a lexicon that ships names its source, a list of words none."""
    cache = words if plan.lexicon.source else replace(words, owner=tenant)
    return mine(encoder, bank, plan, cache=cache, progress=progress)


def _inferred(work: Callable[[Builder], T], builder: Builder) -> T:
    with torch.inference_mode():
        return work(builder)
