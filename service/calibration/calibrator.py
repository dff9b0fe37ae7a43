"""Computes calibrations of stored detectors from uploaded ID images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from service.calibration.records import CalibrationOptions
from service.calibration.store import CalibrationStore, NewCalibration
from service.detectors.maker import Prepared
from service.detectors.rows import DetectorRow
from service.engine import Timings
from service.http.body import Upload
from service.images.encoding import Encoded
from service.scoring.scorer import Scorer
from service.threads import in_thread
from vlm_ood.calibration import Calibration
from vlm_ood.errors import ImageError


@dataclass(frozen=True)
class Calibrator:
    """Computes and reads calibrations.

    Args:
        store: of the calibrations.
        scorer: encodes the images.
        threads: in which thresholds are computed.
    """

    store: CalibrationStore
    scorer: Scorer
    threads: ThreadPoolExecutor

    async def make(
        self, row: DetectorRow, prepared: Prepared, uploads: Sequence[Upload], options: CalibrationOptions
    ) -> tuple[Calibration, Encoded]:
        """Compute and store a calibration, which replaces the one before; gives it and the encoded images.

        Raises:
            ImageError: no image could be used.
            TaskError: the calibration to append to is of other weights, or there are too few images for the rule.
            NotFoundError: the detector was deleted meanwhile.
            ConflictError: another request changed the calibration meanwhile.
            StorageError: it can't be written; the calibration before is still there.
        """
        encoded = await self.scorer.encode(uploads, prepared, Timings())
        if not encoded.found:
            raise ImageError(f"none of the {len(uploads)} images could be used: {next(iter(encoded.errors.values()))}")
        before = await self.read(row) if options.append else None
        calibration = await in_thread(self.threads, lambda: _calibrated(prepared, encoded, options, before))
        await self.store.replace(
            row,
            NewCalibration(
                calibration.to_bytes(), options.keep, calibration.threshold, calibration.n, appended=before is not None
            ),
        )
        return calibration, encoded

    async def read(self, row: DetectorRow) -> Calibration | None:
        """The calibration of the detector; None if it has none.

        Raises:
            StorageError: its file is missing or damaged.
        """
        return None if row.calibration is None else Calibration.from_bytes(await self.store.read(row.calibration))


def _calibrated(
    prepared: Prepared, encoded: Encoded, options: CalibrationOptions, before: Calibration | None
) -> Calibration:
    with torch.inference_mode():
        scores = encoded.evidence(prepared.fitted, top=0).scores.astype(np.float64)
    if before is not None:
        before.check(prepared.fitted.digest)
        scores = np.concatenate([before.scores, scores])
    return Calibration.of(scores, options.keep, prepared.fitted.digest, rule=options.rule)
