"""From a spec to a fitted detector: the text side is encoded by the engine, the rest is learned in a thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from service.banks.mining import Miner
from service.detectors.spec import DetectorSpec
from service.engine import EncoderInfo, Engine
from service.threads import in_thread
from vlm_ood.detectors import FittedDetector, create_detector
from vlm_ood.errors import CapabilityError
from vlm_ood.types import Task


@dataclass(frozen=True, eq=False)
class Prepared:
    """A detector that can score, and the encoder whose vectors it takes."""

    spec: DetectorSpec
    fitted: FittedDetector[Any]
    encoder: EncoderInfo


@dataclass(frozen=True)
class Maker:
    """Makes detectors.

    Args:
        engine: encodes text.
        threads: where detectors learn.
        miner: finds negatives.
        limit_s: how long it may take.
    """

    engine: Engine
    threads: ThreadPoolExecutor
    miner: Miner
    limit_s: float

    async def make(self, spec: DetectorSpec) -> Prepared:
        """The detector of this spec.

        Raises:
            InputError: something is missing or can't be used.
            EngineError: the engine can't answer now.
        """
        detector = create_detector(spec.method, **spec.parameters)
        encoder = await self.engine.encoder(spec.encoder)
        if detector.outputs.patches and "patches" not in encoder.capabilities:
            raise CapabilityError(
                f"{spec.method} reads patch features and {spec.encoder} has none: choose another encoder"
            )
        task = await self._task(spec, encoder)
        fitted = await in_thread(self.threads, _quietly(lambda: detector.fit(task)))
        return Prepared(spec, fitted, encoder)

    async def _task(self, spec: DetectorSpec, encoder: EncoderInfo) -> Task:
        classes = await self.engine.text_bank(spec.encoder, spec.classes, spec.templates, deadline_s=self.limit_s)
        negatives = no = None
        if spec.no_templates is not None:
            no = await self.engine.text_bank(spec.encoder, spec.classes, spec.no_templates, deadline_s=self.limit_s)
        if spec.negatives is not None:
            negatives = await self.miner.mine(spec.negatives, encoder, classes)
        return Task(classes=classes, negatives=negatives, no=no)


def _quietly(work: Callable[[], FittedDetector[Any]]) -> Callable[[], FittedDetector[Any]]:
    """Without a graph for gradients that nobody asks for."""

    def run() -> FittedDetector[Any]:
        with torch.inference_mode():
            fitted = work()
            _ = fitted.digest  # hashed here, not on the event loop
            return fitted

    return run
