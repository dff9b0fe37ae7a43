"""What one request is, and how its response is read; the calls of both clients are made of these."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import httpx
from pydantic import TypeAdapter

from vlm_ood.client.files import Batch, File, name_of
from vlm_ood.errors import ServerError
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
        after_s: seconds to wait before it is sent.
    """

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)
    repeatable: bool = True
    after_s: float = 0.0


Call = Generator[Ask, httpx.Response, T]
"""A call as a conversation: it gives what to ask, takes the response, and ends with the answer."""

RESULT: Final = TypeAdapter(ImageResult)


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


def form(batch: Batch, options: Mapping[str, Any]) -> dict[str, Any]:
    """Names of files stay here: the rows tell them apart."""
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    files = [("images", (str(row), content, "application/octet-stream")) for row, content in batch.contents.items()]
    return {"data": fields, "files": files}


def all_pages(path: str, noun: str, read: Callable[[Any], tuple[T, ...]]) -> Call[tuple[T, ...]]:
    """Everything in a list that comes in pages, newest first."""
    found: tuple[T, ...] = ()
    following: str | None = None
    while True:
        params = {"limit": 100} | ({"after": following} if following else {})
        response = yield Ask("GET", path, {"params": params})
        found += parsed(response, lambda said: read(said[noun]))
        following = parsed(response, lambda said: said["next"])
        if not following:
            return found


def results_of(rows: Sequence[int], answers: Sequence[Mapping[str, Any]]) -> dict[int, ImageResult]:
    """By the row of the file; the server knows its place in the request."""
    return {rows[answer["index"]]: _result(answer) for answer in answers}


def failures(rows: Sequence[int], said: Mapping[str, Any]) -> dict[int, ImageResult]:
    """The images that the server could not use, by the row of the file."""
    return results_of(rows, said["failed"])


def named_failures(
    failed: Mapping[int, ImageResult], errors: Mapping[int, str], files: Sequence[File]
) -> tuple[ImageResult, ...]:
    """What the server could not use and what could not be read here, under the names of the files, in their order."""
    both = {**failed, **{row: ImageResult("", error=error) for row, error in errors.items()}}
    return tuple(replace(both[row], image=name_of(files[row], row)) for row in sorted(both))


def _result(answer: Mapping[str, Any]) -> ImageResult:
    error = answer.get("error")
    return RESULT.validate_python({**answer, "error": error["message"] if error else None})
