"""Every call as a conversation: a generator that gives what to ask, takes the response, and ends with the answer.

It neither sends nor waits, so that the blocking and the asynchronous client share it.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from vlm_ood.client.files import MAX_CALIBRATION_IMAGES, Batch, File, batches, name_of
from vlm_ood.client.records import (
    CalibrationAnswer,
    DetectorInfo,
    DetectorOptions,
    EncoderInfo,
    MethodInfo,
    ScoreAnswer,
)
from vlm_ood.errors import ClassNamesError, ImageError, ServerError
from vlm_ood.results import ImageResult

T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """One request.

    Args:
        method: of HTTP.
        path: below the server's URL.
        content: arguments of httpx: `json`, `data`, `files`, `params`.
        repeatable: whether doing it twice is the same as doing it once.
    """

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)
    repeatable: bool = True


Call = Generator[Ask, httpx.Response, T]

RESULT: Final = TypeAdapter(ImageResult)
CALIBRATION: Final = TypeAdapter(CalibrationAnswer)
DETECTOR: Final = TypeAdapter(DetectorInfo)
DETECTORS: Final = TypeAdapter(tuple[DetectorInfo, ...])
METHODS: Final = TypeAdapter(tuple[MethodInfo, ...])
ENCODERS: Final = TypeAdapter(tuple[EncoderInfo, ...])


def score(path: str, files: Sequence[File], options: Mapping[str, Any]) -> Call[ScoreAnswer]:
    """Score files, in several requests when they are many.

    Raises:
        ServerError: the server refused or failed.
    """
    errors: dict[int, str] = {}
    results: dict[int, ImageResult] = {}
    encoder, method, timings = "", str(options.get("method", "")), Counter[str]()
    for batch in batches(files, errors):
        response = yield Ask("POST", path, _form(batch, options))
        encoder, method = parsed(response, lambda said: (str(said["encoder"]), str(said["method"])))
        results |= parsed(response, partial(_all_results, list(batch.contents)))
        timings.update(server_timings(response))
    results |= {row: ImageResult("", error=error) for row, error in errors.items()}
    named = tuple(replace(results[row], image=name_of(file, row)) for row, file in enumerate(files))
    return ScoreAnswer(named, encoder, method, _note(named), dict(timings))


def calibrate(detector_id: str, files: Sequence[File], keep: float, append: bool, rule: str) -> Call[CalibrationAnswer]:
    """Calibrate from files, in several requests when they are hundreds: the first replaces, the others add.

    Raises:
        ImageError: no file can be read.
        ServerError: the server refused or failed.
    """
    errors: dict[int, str] = {}
    failed: dict[int, ImageResult] = {}
    answer: CalibrationAnswer | None = None
    for batch in batches(files, errors, MAX_CALIBRATION_IMAGES):
        adding = append or answer is not None
        path = f"{detector_path(detector_id)}/calibration"
        fields = {"keep": keep, "append": adding, "rule": rule}
        response = yield Ask("PUT", path, _form(batch, fields), repeatable=not adding)
        failed |= parsed(response, partial(_failures, list(batch.contents)))
        answer = parsed(response, lambda said: CALIBRATION.validate_python({**said, "failed": ()}))
    if answer is None:
        raise ImageError(
            f"none of the {len(files)} files can be read: {next(iter(errors.values()), 'give at least one')}"
        )
    failed |= {row: ImageResult("", error=error) for row, error in errors.items()}
    named = tuple(replace(failed[row], image=name_of(files[row], row)) for row in sorted(failed))
    return replace(answer, failed=named)


def create_detector(classes: Sequence[str], options: DetectorOptions) -> Call[DetectorInfo]:
    """Keep a detector; the same content has the same id."""
    return parsed(
        (yield Ask("POST", "/v1/detectors", {"json": detector_options(classes, options)})), DETECTOR.validate_python
    )


def get_detector(detector_id: str) -> Call[DetectorInfo]:
    """All there is to know about one."""
    return parsed((yield Ask("GET", detector_path(detector_id))), DETECTOR.validate_python)


def delete_detector(detector_id: str) -> Call[None]:
    """Delete one and its calibration."""
    check((yield Ask("DELETE", detector_path(detector_id))))


def list_detectors() -> Call[tuple[DetectorInfo, ...]]:
    """All pages, newest first."""
    found: list[DetectorInfo] = []
    following: str | None = None
    while True:
        params = {"limit": 100} | ({"after": following} if following else {})
        response = yield Ask("GET", "/v1/detectors", {"params": params})
        found += parsed(response, lambda said: DETECTORS.validate_python(said["detectors"]))
        following = parsed(response, lambda said: said["next"])
        if not following:
            return tuple(found)


def list_methods() -> Call[tuple[MethodInfo, ...]]:
    """Every method."""
    response = yield Ask("GET", "/v1/methods")
    return parsed(response, lambda said: METHODS.validate_python(said["methods"]))


def list_encoders() -> Call[tuple[EncoderInfo, ...]]:
    """Every encoder that may be asked for."""
    response = yield Ask("GET", "/v1/encoders")
    return parsed(response, lambda said: ENCODERS.validate_python(said["encoders"]))


def detector_options(classes: Sequence[str], options: DetectorOptions) -> dict[str, Any]:
    """As JSON has them; what is None is left to the server.

    Raises:
        ClassNamesError: one string in place of a list of names.
    """
    if isinstance(classes, str):
        raise ClassNamesError(f"classes is the string {classes[:50]!r}: give a list of names")
    given = {"classes": list(classes), **options}
    return {name: value for name, value in given.items() if value is not None}


def detector_path(detector_id: str) -> str:
    """Of a detector; an id can't lead elsewhere."""
    return f"/v1/detectors/{quote(detector_id, safe='')}"


def check(response: httpx.Response) -> None:
    """Return if the server did what it was asked.

    Raises:
        ServerError: what its problem says.
    """
    if response.is_success:
        return
    try:
        said = response.json()
    except ValueError:
        said = None
    problem = said if isinstance(said, dict) else {}
    raise ServerError(
        response.status_code,
        str(problem.get("title") or response.reason_phrase or "error"),
        str(problem.get("detail") or response.text[:500] or "no reason given"),
        problem.get("request_id") or response.headers.get("X-Request-ID"),
    )


def parsed(response: httpx.Response, read: Callable[[Any], T]) -> T:
    """What `read` makes of the answer's JSON.

    Raises:
        ServerError: a problem, or something that no vlm-ood server says.
    """
    check(response)
    try:
        return read(response.json())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        detail = f"{response.url} answered something else than a vlm-ood server would: {str(error)[:300]}"
        request_id = response.headers.get("X-Request-ID")
        raise ServerError(response.status_code, "not understood", detail, request_id) from None


def server_timings(response: httpx.Response) -> dict[str, float]:
    """Seconds by stage, from `Server-Timing`."""
    seconds: dict[str, float] = {}
    for part in response.headers.get("Server-Timing", "").split(","):
        name, _, duration = part.strip().partition(";dur=")
        try:
            seconds[name] = float(duration) / 1000
        except ValueError:
            continue
    return seconds


def _form(batch: Batch, options: Mapping[str, Any]) -> dict[str, Any]:
    """Names of files stay here: the rows tell them apart."""
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    files = [("images", (str(row), content, "application/octet-stream")) for row, content in batch.contents.items()]
    return {"data": fields, "files": files}


def _all_results(rows: Sequence[int], said: Mapping[str, Any]) -> dict[int, ImageResult]:
    results = _results(rows, said["results"])
    if len(results) != len(rows):
        raise ValueError(f"{len(results)} results for {len(rows)} images")
    return results


def _failures(rows: Sequence[int], said: Mapping[str, Any]) -> dict[int, ImageResult]:
    return _results(rows, said["failed"])


def _results(rows: Sequence[int], answers: Sequence[Mapping[str, Any]]) -> dict[int, ImageResult]:
    """By the row of the file; the server knows its place in the request."""
    return {rows[answer["index"]]: _result(answer) for answer in answers}


def _result(answer: Mapping[str, Any]) -> ImageResult:
    error = answer.get("error")
    return RESULT.validate_python({**answer, "error": error["message"] if error else None})


def _note(results: Sequence[ImageResult]) -> str | None:
    reasons = (each.reason for each in results if each.error is None and each.decision is None)
    reason = next(reasons, None)
    return None if reason is None else f"{reason[:1].upper()}{reason[1:]}."
