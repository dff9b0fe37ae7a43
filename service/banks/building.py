"""Runs library code that builds banks and detectors, in threads, with the engine as text encoder."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from service.engine import EncoderInfo, Engine
from service.engine.text_port import EngineText
from service.threads import in_thread
from vlm_ood.io.cache import DiskCache
from vlm_ood.negatives import mine
from vlm_ood.tasks import Builder, Sources
from vlm_ood.text import BankCache

T = TypeVar("T")


@dataclass(frozen=True)
class Building:
    """Runs the work that builds banks and detectors.

    Args:
        engine: encodes text.
        threads: for tasks and detectors.
        mining: one thread, so that mining runs one at a time and does not block other work.
        banks: cache of banks made from templates.
        words: cache of the vectors of lexicons, so that a lexicon is encoded once.
        limit_s: time limit for encoding all text of one call of `run`.
    """

    engine: Engine
    threads: ThreadPoolExecutor
    mining: ThreadPoolExecutor
    banks: BankCache
    words: DiskCache
    limit_s: float

    async def run(
        self, encoder: EncoderInfo, sources: Sources, work: Callable[[Builder], T], *, mines: bool = False
    ) -> T:
        """The result of `work`, which runs in a thread without gradients.

        Args:
            encoder: encodes the text.
            sources: the stored parts.
            work: called with a builder.
            mines: whether it mines negatives; then it runs in the mining thread.

        Raises:
            InputError: a part can't be used.
            EngineError: the engine can't answer now.
        """
        text = EngineText(self.engine, encoder, self.limit_s)
        builder = Builder(text, sources, banks=self.banks, mine=partial(mine, cache=self.words))
        return await in_thread(self.mining if mines else self.threads, lambda: _inferred(work, builder))


def _inferred(work: Callable[[Builder], T], builder: Builder) -> T:
    with torch.inference_mode():
        return work(builder)
