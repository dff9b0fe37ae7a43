"""Runs library code that builds banks and detectors, in threads, with the engine as text encoder."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch

from service.banks.cache import MemoryBanks
from service.caching.turns import Turns
from service.engine import EncoderInfo, Engine
from service.engine.text_port import EngineText
from service.threads import in_thread
from vlm_ood.background import background_of
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
        places: how many of them work that encodes text may take; the others are for short work.
        mining: one thread, so that mining runs one at a time and does not block other work.
        banks: caches of banks made from templates.
        words: cache of the vectors of word lists. All tenants share those of the lexicons that ship, which take minutes
            to encode and tell nothing but that somebody mined; those of a tenant's own words serve it alone.
        limit_s: time limit for encoding all text of one call of `run`.
    """

    engine: Engine
    threads: ThreadPoolExecutor
    places: int
    mining: ThreadPoolExecutor
    banks: MemoryBanks
    words: DiskCache
    limit_s: float
    _turns: Turns = field(init=False)
    _mining_turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_turns", Turns(self.places))
        object.__setattr__(self, "_mining_turns", Turns(1))

    async def run(
        self,
        tenant: str,
        encoder: EncoderInfo,
        sources: Sources | None,
        work: Callable[[Builder], T],
        *,
        mines: bool = False,
    ) -> T:
        """The result of `work`, which runs in a thread without gradients when it is the tenant's turn.

        When the caller is cancelled, the work stops at its next prompts or its next chunk of words.

        Args:
            tenant: for whom it is done.
            encoder: encodes the text.
            sources: the stored parts; None where there are none.
            work: called with a builder.
            mines: whether it mines negatives; then it runs in the mining thread.

        Raises:
            InputError: a part can't be used.
            EngineError: the engine can't answer now.
        """
        turns, threads = (self._mining_turns, self.mining) if mines else (self._turns, self.threads)
        async with turns.of(tenant):
            text = EngineText(self.engine, encoder, tenant, self.limit_s)
            own = EngineText(self.engine, encoder, deadline_s=self.limit_s)  # all tenants share what no tenant sent
            builder = Builder(
                text,
                sources,
                banks=self.banks.of(tenant),
                mine=partial(_mined, self.words, tenant),
                progress=text.check,
                background=partial(background_of, own, own.encode_files, cache=self.banks.of("")),
            )
            running = asyncio.ensure_future(in_thread(threads, lambda: _inferred(work, builder)))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                text.stop()
                own.stop()
                await asyncio.gather(running, return_exceptions=True)  # the place is free when the thread is
                raise

    async def share_background(self, encoder: EncoderInfo) -> None:
        """Make the background, which all tenants share, before a request waits for it; errors as in `run`."""
        await self.run("", encoder, None, _background)


def _background(builder: Builder) -> None:
    if builder.background is not None:
        builder.background()


def _mined(
    words: DiskCache, tenant: str, encoder: TextEncoder, bank: TextBank, plan: MiningPlan, *, progress: Progress | None
) -> Mining:
    """Mine with the vectors that the tenant may share: a lexicon that ships names its source, a list of words none."""
    cache = words if plan.lexicon.source else replace(words, owner=tenant)
    return mine(encoder, bank, plan, cache=cache, progress=progress)


def _inferred(work: Callable[[Builder], T], builder: Builder) -> T:
    with torch.inference_mode():
        return work(builder)
