"""Builds the fitted detector of a spec, in a thread, with the engine as text encoder."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from service.banks.building import Building
from service.banks.made import MadeBanks, stored_parts
from service.engine import EncoderInfo, Head
from service.engine.worker.heads import detector_head
from vlm_ood.detectors import FittedDetector
from vlm_ood.errors import CapabilityError
from vlm_ood.tasks import Builder, DetectorSpec, MinedBank


@dataclass(frozen=True)
class Wanted:
    """A detector that a tenant asks for."""

    tenant: str
    spec: DetectorSpec


@dataclass(frozen=True, eq=False)
class Prepared:
    """A tenant's fitted detector, its spec, and the encoder whose vectors it reads."""

    tenant: str
    spec: DetectorSpec
    fitted: FittedDetector[Any]
    encoder: EncoderInfo

    @cached_property
    def head(self) -> Head | None:
        """The head that runs in the worker, for a method that reads more than pooled features; else None."""
        return detector_head(self.fitted) if self.fitted.detector.outputs.local else None


@dataclass(frozen=True)
class Maker:
    """Builds fitted detectors.

    Args:
        building: runs the work in threads.
        banks: the stored parts of tasks.
    """

    building: Building
    banks: MadeBanks

    async def make(self, wanted: Wanted) -> Prepared:
        """The detector that is wanted; waits until the banks that it refers to are made.

        Raises:
            InputError: a part can't be used.
            NotFoundError: a bank was deleted.
            CapabilityError: the encoder lacks what the method reads.
            EngineError: the engine can't answer now.
        """
        spec = wanted.spec
        encoder = await self.building.engine.encoder(spec.task.encoder)
        _check_outputs(spec, encoder)
        sources = await self.banks.sources(stored_parts(spec.task), encoder)
        mines = isinstance(spec.task.negatives, MinedBank)
        fitted = await self.building.run(
            wanted.tenant, encoder, sources, lambda builder: _fit(builder, spec), mines=mines
        )
        return Prepared(wanted.tenant, spec, fitted, encoder)


def _check_outputs(spec: DetectorSpec, encoder: EncoderInfo) -> None:
    lacking = sorted(spec.detector.outputs.needs - encoder.capabilities)
    if lacking:
        raise CapabilityError(
            f"{spec.method} reads {' and '.join(lacking)} and {encoder.name} gives none: choose another encoder"
        )


def _fit(builder: Builder, spec: DetectorSpec) -> FittedDetector[Any]:
    """Fit the detector, and compute its digest here, because hashing would block the event loop."""
    fitted = builder.fit(spec)
    _ = fitted.digest
    return fitted
