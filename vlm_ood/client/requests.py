"""The record of one request, and functions that read responses; the calls of both clients use them."""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import httpx
from pydantic import TypeAdapter

from vlm_ood.client.files import Batch, File, name_of
from vlm_ood.errors import ServerError
from vlm_ood.results import ImageResult

T = TypeVar("T")


@dataclass(frozen=True)
class ApiRequest:
    """One request to the server.

    Args:
        method: the HTTP method.
        path: the path below the server's URL.
        content: arguments of httpx: `json`, `data`, `files`, `params`.
        repeatable: whether it may be sent again when the first one may have been processed.
        after_s: seconds to wait before it is sent.
    """

    method: str
    path: str
    content: Mapping[str, Any] = field(default_factory=dict)
    repeatable: bool = True
    after_s: float = 0.0


Call = Generator[ApiRequest, httpx.Response, T]
"""A generator that yields requests, is sent their responses, and returns the result of the call."""

RESULT: Final = TypeAdapter(ImageResult)
TOO_LARGE: Final = 413


class Sending:
    """The batches to send; a server may take less than is usual, and what it finds too large comes again in halves.

    Args:
        batches: in order.
        errors: {row of a file: why it has no result}; gets the files that are too large alone.
    """

    def __init__(self, batches: Iterator[Batch], errors: dict[int, str]) -> None:
        self._batches, self._errors = batches, errors
        self._halves: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self._halves.pop() if self._halves else next(self._batches, None)
            if batch is None:
                return
            yield batch

    def is_too_large(self, batch: Batch, response: httpx.Response) -> bool:
        """Whether the server refused the batch for its size; its halves are next, or its one file has the error."""
        if response.status_code != TOO_LARGE:
            return False
        if len(batch.contents) > 1:
            self._halves += reversed(batch.halves())
        else:
            self._errors |= dict.fromkeys(batch.contents, problem_of(response).detail)
        return True


def check(response: httpx.Response) -> None:
    """Raise an error unless the response has a status of success.

    Raises:
        ServerError: with the title and the detail of the server's problem document.
    """
    if not response.is_success:
        raise problem_of(response)


def problem_of(response: httpx.Response) -> ServerError:
    """The error of a response, from the server's problem document where it holds one."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    return ServerError(
        response.status_code,
        str(problem.get("title") or response.reason_phrase or "error"),
        str(problem.get("detail") or response.text[:500] or "no reason given"),
        problem.get("request_id") or response.headers.get("X-Request-ID"),
    )


def parsed(response: httpx.Response, read: Callable[[Any], T]) -> T:
    """Return what `read` makes of the JSON of a response.

    Raises:
        ServerError: the response is an error, or not one of a vlm-ood server.
    """
    check(response)
    try:
        return read(response.json())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        detail = f"the response of {response.url} is not that of a vlm-ood server: {str(error)[:300]}"
        request_id = response.headers.get("X-Request-ID")
        raise ServerError(response.status_code, "not understood", detail, request_id) from None


def form(batch: Batch, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return httpx's arguments for a form with options and images; an image's name is its row, not its file name."""
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    files = [("images", (str(row), content, "application/octet-stream")) for row, content in batch.contents.items()]
    return {"data": fields, "files": files}


def all_pages(path: str, noun: str, read: Callable[[Any], tuple[T, ...]]) -> Call[tuple[T, ...]]:
    """Request every page of a list, newest first."""
    found: tuple[T, ...] = ()
    following: str | None = None
    while True:
        params = {"limit": 100} | ({"after": following} if following else {})
        response = yield ApiRequest("GET", path, {"params": params})
        found += parsed(response, lambda body: read(body[noun]))
        following = parsed(response, lambda body: body["next"])
        if not following:
            return found


def results_of(rows: Sequence[int], answers: Sequence[Mapping[str, Any]]) -> dict[int, ImageResult]:
    """Return {row of a file: its result}; `index` of an answer is the place of the file in the request."""
    return {rows[answer["index"]]: _result(answer) for answer in answers}


def failures(rows: Sequence[int], body: Mapping[str, Any]) -> dict[int, ImageResult]:
    """Return {row of a file: its result} for the images that the server could not use."""
    return results_of(rows, body["failed"])


def named_failures(
    failed: Mapping[int, ImageResult], errors: Mapping[int, str], files: Sequence[File]
) -> tuple[ImageResult, ...]:
    """Return the results of files that could not be read, or that the server could not use, in their order."""
    both = {**failed, **{row: ImageResult("", error=error) for row, error in errors.items()}}
    return tuple(replace(both[row], image=name_of(files[row], row)) for row in sorted(both))


def _result(answer: Mapping[str, Any]) -> ImageResult:
    error = answer.get("error")
    return RESULT.validate_python({**answer, "error": error["message"] if error else None})
