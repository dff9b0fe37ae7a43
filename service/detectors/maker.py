"""From a spec to a fitted detector: the task is built in a thread, with the engine as its text encoder."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from service.engine import EncoderInfo, Engine, Head
from service.engine.text_port import EngineText
from service.engine.worker.heads import detector_head
from service.threads import in_thread
from vlm_ood.detectors import FittedDetector
from vlm_ood.errors import CapabilityError
from vlm_ood.io.cache import DiskCache
from vlm_ood.negatives import mine
from vlm_ood.tasks import Builder, DetectorSpec, MinedBank
from vlm_ood.text import BankCache


@dataclass(frozen=True, eq=False)
class Prepared:
    """A detector that can score, and the encoder whose vectors it takes."""

    spec: DetectorSpec
    fitted: FittedDetector[Any]
    encoder: EncoderInfo

    @cached_property
    def head(self) -> Head | None:
        """What runs in the worker, for a method that reads more than pooled features; None for the others."""
        return detector_head(self.fitted) if self.fitted.detector.outputs.local else None


@dataclass(frozen=True)
class Maker:
    """Makes detectors.

    Args:
        engine: encodes text.
        building: threads in which tasks are built and detectors learn.
        mining: one thread, so that minings take turns and never hold the others up.
        banks: where banks of templates are kept.
        words: where the vectors of lexicons are kept: a lexicon is encoded once.
        limit_s: how long each piece of text may wait for the engine.
    """

    engine: Engine
    building: ThreadPoolExecutor
    mining: ThreadPoolExecutor
    banks: BankCache
    words: DiskCache
    limit_s: float

    async def make(self, spec: DetectorSpec) -> Prepared:
        """The detector of this spec.

        Raises:
            InputError: a part can't be used.
            CapabilityError: the encoder lacks what the method reads.
            EngineError: the engine can't answer now.
        """
        encoder = await self.engine.encoder(spec.task.encoder)
        _check_outputs(spec, encoder)
        text = EngineText(self.engine, encoder, self.limit_s)
        builder = Builder(text, banks=self.banks, mine=partial(mine, cache=self.words))
        pool = self.mining if isinstance(spec.task.negatives, MinedBank) else self.building
        return Prepared(spec, await in_thread(pool, lambda: _fit(builder, spec)), encoder)


def _check_outputs(spec: DetectorSpec, encoder: EncoderInfo) -> None:
    lacking = sorted(spec.detector.outputs.needs - encoder.capabilities)
    if lacking:
        raise CapabilityError(
            f"{spec.method} reads {' and '.join(lacking)} and {encoder.name} gives none: choose another encoder"
        )


def _fit(builder: Builder, spec: DetectorSpec) -> FittedDetector[Any]:
    """Without a graph for gradients; the digest is computed here, not on the event loop."""
    with torch.inference_mode():
        fitted = builder.fit(spec)
        _ = fitted.digest
        return fitted
