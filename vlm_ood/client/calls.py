"""The calls of the clients, each a generator that yields requests, is sent their responses, and returns the result.

They neither send nor wait, so that the blocking and the asynchronous client share them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from vlm_ood.client.bank_records import Bank, names_or_bank, plain
from vlm_ood.client.files import MAX_CALIBRATION_IMAGES, File, batches, name_of
from vlm_ood.client.records import (
    CalibrationAnswer,
    DetectorInfo,
    DetectorOptions,
    EncoderInfo,
    MethodInfo,
    ScoreAnswer,
)
from vlm_ood.client.requests import (
    ApiRequest,
    Call,
    Sending,
    all_pages,
    check,
    failures,
    form,
    named_failures,
    parsed,
    results_of,
)
from vlm_ood.errors import ImageError
from vlm_ood.results import ImageResult
from vlm_ood.selective import Costs

CALIBRATION: Final = TypeAdapter(CalibrationAnswer)
DETECTOR: Final = TypeAdapter(DetectorInfo)
DETECTORS: Final = TypeAdapter(tuple[DetectorInfo, ...])
METHODS: Final = TypeAdapter(tuple[MethodInfo, ...])
ENCODERS: Final = TypeAdapter(tuple[EncoderInfo, ...])


def score(
    path: str,
    files: Sequence[File],
    options: Mapping[str, Any],
    top: int,
    threshold: float | None,
    costs: Costs | None = None,
) -> Call[ScoreAnswer]:
    """Score files, in several requests when they are many, and in smaller ones where the server refuses the size.

    Args:
        path: the path of the route.
        files: the images.
        options: the options of the detector as JSON values; empty where the path names a detector.
        top: how many nearest classes to name.
        threshold: scores above it are out of distribution.
        costs: of mistakes, for an action per image; the detector must be calibrated.

    Raises:
        ServerError: the server refused or failed.
    """
    fields = {**options, "top": top} | ({} if threshold is None else {"threshold": threshold})
    fields |= {} if costs is None else {"costs": asdict(costs)}
    errors: dict[int, str] = {}
    results: dict[int, ImageResult] = {}
    encoder, method, timings = "", str(options.get("method", "")), Counter[str]()
    sending = Sending(batches(files, errors), errors)
    for batch in sending:
        response = yield ApiRequest("POST", path, form(batch, fields))
        if sending.is_too_large(batch, response):
            continue
        encoder, method = parsed(response, lambda body: (str(body["encoder"]), str(body["method"])))
        results |= parsed(response, partial(_all_results, list(batch.contents)))
        timings.update(server_timings(response))
    results |= {row: ImageResult("", error=error) for row, error in errors.items()}
    named = tuple(replace(results[row], image=name_of(file, row)) for row, file in enumerate(files))
    return ScoreAnswer(named, encoder, method, _note(named), dict(timings))


def calibrate(detector_id: str, files: Sequence[File], keep: float, append: bool, rule: str) -> Call[CalibrationAnswer]:
    """Calibrate from files, in several requests when there are many: the first one replaces, the others append.

    Raises:
        ImageError: no file can be used.
        ServerError: the server refused or failed.
    """
    errors: dict[int, str] = {}
    failed: dict[int, ImageResult] = {}
    answer: CalibrationAnswer | None = None
    sending = Sending(batches(files, errors, MAX_CALIBRATION_IMAGES), errors)
    for batch in sending:
        adding = append or answer is not None
        path = f"{detector_path(detector_id)}/calibration"
        fields = {"keep": keep, "append": adding, "rule": rule}
        response = yield ApiRequest("PUT", path, form(batch, fields), repeatable=not adding)
        if sending.is_too_large(batch, response):
            continue
        failed |= parsed(response, partial(failures, list(batch.contents)))
        answer = parsed(response, lambda body: CALIBRATION.validate_python({**body, "failed": ()}))
    if answer is None:
        raise ImageError(
            f"none of the {len(files)} files can be used: {next(iter(errors.values()), 'give at least one')}"
        )
    return replace(answer, failed=named_failures(failed, errors, files))


def create_detector(classes: Sequence[str] | Bank, options: DetectorOptions) -> Call[DetectorInfo]:
    """Store a detector; the same content has the same id."""
    return parsed(
        (yield ApiRequest("POST", "/v1/detectors", {"json": detector_options(classes, options)})),
        DETECTOR.validate_python,
    )


def get_detector(detector_id: str) -> Call[DetectorInfo]:
    """Get a detector."""
    return parsed((yield ApiRequest("GET", detector_path(detector_id))), DETECTOR.validate_python)


def delete_detector(detector_id: str) -> Call[None]:
    """Delete a detector and its calibration."""
    check((yield ApiRequest("DELETE", detector_path(detector_id))))


def list_detectors() -> Call[tuple[DetectorInfo, ...]]:
    """List the detectors, newest first."""
    return (yield from all_pages("/v1/detectors", "detectors", DETECTORS.validate_python))


def list_methods() -> Call[tuple[MethodInfo, ...]]:
    """List the methods."""
    response = yield ApiRequest("GET", "/v1/methods")
    return parsed(response, lambda body: METHODS.validate_python(body["methods"]))


def list_encoders() -> Call[tuple[EncoderInfo, ...]]:
    """List the encoders that requests may name."""
    response = yield ApiRequest("GET", "/v1/encoders")
    return parsed(response, lambda body: ENCODERS.validate_python(body["encoders"]))


def detector_options(classes: Sequence[str] | Bank, options: DetectorOptions) -> dict[str, Any]:
    """The options of a detector as JSON values; those that are None are left out, so that the server's defaults apply.

    Raises:
        ClassNamesError: one string in place of a list of names.
    """
    given = {"classes": names_or_bank(classes), **options}
    return {name: plain(value) for name, value in given.items() if value is not None}


def detector_path(detector_id: str) -> str:
    """The path of a detector; the id is quoted, so that it can't name another route."""
    return f"/v1/detectors/{quote(detector_id, safe='')}"


def server_timings(response: httpx.Response) -> dict[str, float]:
    """{stage: seconds}, from the header `Server-Timing`."""
    seconds: dict[str, float] = {}
    for part in response.headers.get("Server-Timing", "").split(","):
        name, _, duration = part.strip().partition(";dur=")
        try:
            seconds[name] = float(duration) / 1000
        except ValueError:
            continue
    return seconds


def _all_results(rows: Sequence[int], body: Mapping[str, Any]) -> dict[int, ImageResult]:
    results = results_of(rows, body["results"])
    if len(results) != len(rows):
        raise ValueError(f"{len(results)} results for {len(rows)} images")
    return results


def _note(results: Sequence[ImageResult]) -> str | None:
    reasons = (each.reason for each in results if each.error is None and each.decision is None)
    reason = next(reasons, None)
    return None if reason is None else f"{reason[:1].upper()}{reason[1:]}."
