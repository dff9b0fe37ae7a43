"""Maps every error to a status of HTTP and to a problem document (RFC 9457)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from starlette.responses import JSONResponse

from service.engine import DeadlineExceeded, Draining, EngineError, NotReady, QueueFull, WorkerLost
from service.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    BusyError,
    ConflictError,
    ForbiddenError,
    HeadTooLargeError,
    MalformedBodyError,
    MalformedRequestError,
    MisdirectedError,
    NotFoundError,
    PreparingError,
    RateLimitedError,
    UnauthenticatedError,
    UnsupportedBodyError,
)
from vlm_ood import errors as core

MAX_DETAIL = 2000  # characters; a message may quote its input


@dataclass(frozen=True)
class ProblemType:
    """The slug, status and title of one class of errors."""

    slug: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """The URI of the problem type."""
        return f"urn:vlm-ood:problem:{self.slug}"


INVALID: Final = ProblemType("invalid-request", 422, "The request doesn't fit the schema")


INTERNAL: Final = ProblemType("internal", 500, "Internal error")


PROBLEM_TYPES: Final[Mapping[type[core.VlmOodError], ProblemType]] = MappingProxyType(
    {
        core.ImageError: ProblemType("image", 422, "The image can't be used"),
        core.VectorError: ProblemType("vectors", 422, "Vectors can't be used"),
        core.ClassNamesError: ProblemType("class-names", 422, "Class names can't be used"),
        core.TemplateError: ProblemType("templates", 422, "Templates can't be used"),
        core.LexiconError: ProblemType("lexicon", 422, "The word list can't be used"),
        core.UnknownNameError: ProblemType("unknown-name", 422, "No such name"),
        core.ParameterError: ProblemType("parameters", 422, "Parameters are unknown or out of range"),
        core.TaskError: ProblemType("task", 422, "Parts of the task are missing or don't fit"),
        core.InputError: ProblemType("input", 422, "The input can't be used"),
        core.CapabilityError: ProblemType("capability", 422, "The encoder does not support this"),
        core.EncoderError: ProblemType("encoder", 503, "The encoder can't be used"),
        core.StorageError: ProblemType("storage", 507, "Nothing could be stored"),
        core.VlmOodError: INTERNAL,
        MalformedBodyError: ProblemType("malformed-body", 400, "The body can't be parsed"),
        MalformedRequestError: ProblemType("malformed-request", 400, "The request is not valid HTTP"),
        HeadTooLargeError: ProblemType("head-too-large", 431, "The head of the request is too large"),
        UnauthenticatedError: ProblemType("unauthenticated", 401, "A key is needed"),
        ForbiddenError: ProblemType("forbidden", 403, "Not allowed"),
        NotFoundError: ProblemType("not-found", 404, "Not found"),
        BodyTooSlowError: ProblemType("body-too-slow", 408, "The body didn't arrive in time"),
        ConflictError: ProblemType("conflict", 409, "Can't be done in this state"),
        BodyTooLargeError: ProblemType("body-too-large", 413, "The body is too large"),
        UnsupportedBodyError: ProblemType("unsupported-body", 415, "This content type is not read here"),
        MisdirectedError: ProblemType("misdirected", 421, "This host is not served here"),
        RateLimitedError: ProblemType("rate-limited", 429, "The key's rate limit is used up"),
        BusyError: ProblemType("busy", 503, "Too much in flight"),
        PreparingError: ProblemType("preparing", 503, "It is being prepared"),
        QueueFull: ProblemType("queue-full", 503, "The queue is full"),
        Draining: ProblemType("draining", 503, "The server is shutting down"),
        NotReady: ProblemType("not-ready", 503, "The server is not ready"),
        WorkerLost: ProblemType("worker-lost", 503, "The worker died"),
        DeadlineExceeded: ProblemType("deadline", 504, "Not done in time"),
        EngineError: ProblemType("engine", 503, "The engine can't answer"),
    }
)


def problem_type_of(error: core.VlmOodError) -> ProblemType:
    """The problem type of an error: that of its class or of the nearest base class in the table."""
    return next(PROBLEM_TYPES[cls] for cls in type(error).__mro__ if cls in PROBLEM_TYPES)


def problem_response(
    problem: ProblemType, detail: str, request_id: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """An answer of type application/problem+json.

    Args:
        problem: gives type, title and status.
        detail: of this error; cut to `MAX_DETAIL` characters.
        request_id: under which the log has more.
        headers: of the answer.
        more: further members of the problem.
    """
    content = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": printable(detail[:MAX_DETAIL]),
        "request_id": request_id,
        **more,
    }
    return JSONResponse(content, problem.status, dict(headers or {}), "application/problem+json")


def printable(text: str) -> str:
    """The text with lone surrogates escaped, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def response_to(error: core.VlmOodError, request_id: str) -> JSONResponse:
    """The problem document of an error, with `Retry-After` and `WWW-Authenticate` where they apply."""
    problem = problem_type_of(error)
    detail = "the server's log has details under this request id" if problem.status == 500 else str(error)
    return problem_response(problem, detail, request_id, headers=_headers(error, problem))


def _headers(error: core.VlmOodError, problem: ProblemType) -> dict[str, str]:
    headers = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(retry_after_s)))
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers
