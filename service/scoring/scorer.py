"""From uploads to answers: one encode for all, one answer each, and a broken image breaks nothing else."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from service.detectors.maker import Prepared
from service.engine import EncodedImage, Engine, Head, Timings
from service.http.body import Upload
from service.observability.metrics import HttpMetrics
from service.problems import kind_of
from service.scoring.answers import ImageAnswer, ItemError, NearestView
from service.scoring.records import AnswerOptions
from service.security.fetching import Fetcher
from service.threads import in_thread
from vlm_ood.calibration import Calibration, is_above, tolerance_of
from vlm_ood.detectors import Evidence, FittedDetector
from vlm_ood.errors import VlmOodError
from vlm_ood.results import ImageResult, by_threshold, judge_evidence
from vlm_ood.types import ImageFeatures

FETCHES_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Encoded:
    """Uploads after the network.

    Args:
        found: {row: what was found in it}, in order.
        errors: {row: why nothing was}.
    """

    found: dict[int, EncodedImage]
    errors: dict[int, VlmOodError]

    def features(self) -> ImageFeatures:
        """Pooled, of all that have some, as one; for a thread, since the event loop does no arithmetic."""
        return ImageFeatures.concatenate([image.features for image in self.found.values()])

    def evidence(self, fitted: FittedDetector[Any], top: int) -> Evidence:
        """What the detector says about them, as it was found in the worker, or else from the pooled features here.

        Args:
            fitted: the detector they were encoded for.
            top: how many negatives to name at least, where there are so many.
        """
        found = [image.answer for image in self.found.values() if isinstance(image.answer, Evidence)]
        return Evidence.concatenate(found) if found else fitted.examine(self.features(), top)


@dataclass(frozen=True)
class Scorer:
    """Encodes and judges.

    Args:
        engine: encodes images.
        threads: where images are judged.
        fetcher: for URLs; None when they are not fetched.
        metrics: where images are counted.
        chunk: images that go into the engine's queue at once.
    """

    engine: Engine
    threads: ThreadPoolExecutor
    fetcher: Fetcher | None
    metrics: HttpMetrics
    chunk: int

    async def encode(self, uploads: Sequence[Upload], prepared: Prepared, timings: Timings) -> Encoded:
        """The uploads that are pictures, with what the detector reads of them."""
        return await self._encode(uploads, prepared.encoder.name, prepared.head, timings)

    async def encode_pooled(self, uploads: Sequence[Upload], encoder: str, timings: Timings) -> Encoded:
        """The uploads that are pictures, with pooled features alone."""
        return await self._encode(uploads, encoder, None, timings)

    async def _encode(self, uploads: Sequence[Upload], encoder: str, head: Head | None, timings: Timings) -> Encoded:
        uploads = await self.fetched(uploads)
        contents = {row: upload.content for row, upload in enumerate(uploads) if isinstance(upload.content, bytes)}
        errors: dict[int, VlmOodError] = {
            row: upload.content for row, upload in enumerate(uploads) if isinstance(upload.content, VlmOodError)
        }
        found: dict[int, EncodedImage] = {}
        rows = list(contents)
        for start in range(0, len(rows), self.chunk):
            part = rows[start : start + self.chunk]
            encoded = await self.engine.encode_images(
                encoder, [contents[row] for row in part], head=head, timings=timings
            )
            for row, result in zip(part, encoded, strict=True):
                if isinstance(result, VlmOodError):
                    errors[row] = result
                else:
                    found[row] = result
        return Encoded(found, errors)

    async def score(
        self,
        uploads: Sequence[Upload],
        prepared: Prepared,
        options: AnswerOptions,
        calibration: Calibration | None,
        timings: Timings,
    ) -> tuple[list[ImageAnswer], float]:
        """One answer per upload, in order, and the seconds that judging took."""
        encoded = await self.encode(uploads, prepared, timings)
        answers = {row: failure(row, uploads[row], error) for row, error in encoded.errors.items()}
        started = time.perf_counter()
        if encoded.found:
            results = await in_thread(self.threads, lambda: _judged(encoded, uploads, prepared, options, calibration))
            answers |= {row: _answer(row, result) for row, result in zip(encoded.found, results, strict=True)}
        seconds = time.perf_counter() - started
        self._count(encoded, seconds)
        return [answers[row] for row in range(len(uploads))], seconds

    def _count(self, encoded: Encoded, seconds: float) -> None:
        self.metrics.images.labels("scored").inc(len(encoded.found))
        self.metrics.judge_seconds.observe(seconds)
        for error in encoded.errors.values():
            self.metrics.images.labels(kind_of(error).slug).inc()

    async def fetched(self, uploads: Sequence[Upload]) -> list[Upload]:
        """The uploads with bytes, or an error, in place of each URL."""
        gate = asyncio.Semaphore(FETCHES_AT_ONCE)

        async def fetch(upload: Upload) -> Upload:
            async with gate:
                return await upload.fetched(self.fetcher)

        return list(await asyncio.gather(*map(fetch, uploads)))


def failure(row: int, upload: Upload, error: VlmOodError) -> ImageAnswer:
    """The answer about an image that can't be used."""
    return ImageAnswer(index=row, image=upload.name, error=ItemError(code=kind_of(error).slug, message=str(error)))


def _judged(
    encoded: Encoded,
    uploads: Sequence[Upload],
    prepared: Prepared,
    options: AnswerOptions,
    calibration: Calibration | None,
) -> list[ImageResult]:
    with torch.inference_mode():
        results = judge_evidence(
            prepared.fitted,
            [uploads[row].name for row in encoded.found],
            encoded.features(),
            encoded.evidence(prepared.fitted, options.top),
            calibration=calibration,
            top=options.top,
            scale=prepared.encoder.scale,
        )
    if options.threshold is None:
        return results
    tolerance = tolerance_of([options.threshold]) if calibration is None else calibration.tolerance
    return [_decided_by(options.threshold, tolerance, result) for result in results]


def _decided_by(threshold: float, tolerance: float, result: ImageResult) -> ImageResult:
    """The result under the caller's own threshold."""
    if result.score is None:
        return result
    outside = bool(is_above(np.array([result.score]), threshold, tolerance)[0])
    decision, reason = by_threshold(result.score, threshold, outside, " you gave")
    return replace(result, decision=decision, threshold=threshold, reason=reason)


def _answer(row: int, result: ImageResult) -> ImageAnswer:
    def view(nearest: Sequence[object]) -> list[NearestView]:
        return [NearestView.model_validate(each, from_attributes=True) for each in nearest]

    return ImageAnswer(
        index=row,
        image=result.image,
        score=result.score,
        decision=result.decision,
        reason=result.reason,
        threshold=result.threshold,
        p_value=result.p_value,
        classes=view(result.classes),
        negatives=view(result.negatives),
    )
