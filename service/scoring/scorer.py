"""Scores uploads: all are encoded together, and each has an answer or an error of its own."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from service.detectors.maker import Prepared
from service.engine import Timings
from service.http.body import Upload
from service.images.answers import ImageAnswer, NearestView, failure
from service.images.encoding import Encoded, UploadEncoder
from service.observability.metrics import HttpMetrics
from service.problems import problem_type_of
from service.scoring.records import AnswerOptions
from service.threads import in_thread
from vlm_ood.calibration import Calibration, is_above, tolerance_of
from vlm_ood.results import ImageResult, by_threshold, judge_evidence
from vlm_ood.selective import Costs


@dataclass(frozen=True)
class Scorer:
    """Encodes and scores images.

    Args:
        images: encodes uploads.
        threads: in which scores are computed.
        metrics: count the images.
    """

    images: UploadEncoder
    threads: ThreadPoolExecutor
    metrics: HttpMetrics

    async def encode(self, uploads: Sequence[Upload], prepared: Prepared, timings: Timings) -> Encoded:
        """Encode the uploads, and run the detector's head where it has one."""
        return await self.images.encode(prepared.tenant, uploads, prepared.encoder.name, timings, prepared.head)

    async def score(
        self,
        uploads: Sequence[Upload],
        prepared: Prepared,
        options: AnswerOptions,
        calibration: Calibration | None,
        timings: Timings,
        costs: Costs | None = None,
    ) -> tuple[list[ImageAnswer], float]:
        """One answer per upload, in order, and the seconds that scoring took; `timings` is filled."""
        encoded = await self.encode(uploads, prepared, timings)
        answers = {row: failure(row, uploads[row], error) for row, error in encoded.errors.items()}
        started = time.perf_counter()
        if encoded.found:
            results = await in_thread(
                self.threads, lambda: _judged(encoded, uploads, prepared, options, calibration, costs)
            )
            answers |= {row: _answer(row, result) for row, result in zip(encoded.found, results, strict=True)}
        seconds = time.perf_counter() - started
        self._count(encoded, seconds)
        return [answers[row] for row in range(len(uploads))], seconds

    def _count(self, encoded: Encoded, seconds: float) -> None:
        self.metrics.images.labels("scored").inc(len(encoded.found))
        self.metrics.judge_seconds.observe(seconds)
        for error in encoded.errors.values():
            self.metrics.images.labels(problem_type_of(error).slug).inc()


def _judged(
    encoded: Encoded,
    uploads: Sequence[Upload],
    prepared: Prepared,
    options: AnswerOptions,
    calibration: Calibration | None,
    costs: Costs | None,
) -> list[ImageResult]:
    with torch.inference_mode():
        results = judge_evidence(
            prepared.fitted,
            [uploads[row].name for row in encoded.found],
            encoded.features,
            encoded.evidence(prepared.fitted, options.top),
            calibration=calibration,
            top=options.top,
            scale=prepared.encoder.scale,
            costs=costs,
        )
    if options.threshold is None:
        return results
    tolerance = tolerance_of([options.threshold]) if calibration is None else calibration.tolerance
    return [_decided_by(options.threshold, tolerance, result) for result in results]


def _decided_by(threshold: float, tolerance: float, result: ImageResult) -> ImageResult:
    """The result with the decision by the request's threshold."""
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
        action=result.action,
        action_reason=result.action_reason,
    )
