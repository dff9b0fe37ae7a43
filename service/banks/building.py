"""Library code that makes banks and detectors, in threads, with the engine as its text encoder."""

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
    """Where banks and detectors are made.

    Args:
        engine: encodes text.
        threads: in which tasks are built and detectors learn.
        mining: one thread, so that minings take turns and never hold the others up.
        banks: where banks of templates are kept.
        words: where the vectors of lexicons are kept: a lexicon is encoded once.
        limit_s: how long all the text of one piece of work may wait for the engine.
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
        """The result of the work, which is given a builder and runs in a thread without gradients.

        Args:
            encoder: whose text tower makes vectors.
            sources: of the stored parts.
            work: what to make.
            mines: whether it encodes a lexicon.

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
