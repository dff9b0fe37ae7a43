"""One table from what went wrong to what HTTP says about it: RFC 9457 problems."""

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
    MalformedBodyError,
    MisdirectedError,
    NotFoundError,
    PreparingError,
    RateLimitedError,
    UnauthenticatedError,
    UnsupportedBodyError,
)
from vlm_ood import errors as core

MAX_DETAIL = 2000  # characters: a message may quote what it was given


@dataclass(frozen=True)
class Kind:
    """How one class of error is told."""

    slug: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """The URI that names it."""
        return f"urn:vlm-ood:problem:{self.slug}"


INVALID: Final = Kind("invalid-request", 422, "The request doesn't fit the schema")


INTERNAL: Final = Kind("internal", 500, "Something went wrong on our side")


KINDS: Final[Mapping[type[core.VlmOodError], Kind]] = MappingProxyType(
    {
        core.ImageError: Kind("image", 422, "The image can't be used"),
        core.VectorError: Kind("vectors", 422, "Vectors can't be used"),
        core.ClassNamesError: Kind("class-names", 422, "Class names can't be used"),
        core.TemplateError: Kind("templates", 422, "Templates can't be used"),
        core.LexiconError: Kind("lexicon", 422, "The word list can't be used"),
        core.UnknownNameError: Kind("unknown-name", 422, "No such name"),
        core.ParameterError: Kind("parameters", 422, "Parameters are unknown or out of range"),
        core.TaskError: Kind("task", 422, "The method lacks something"),
        core.InputError: Kind("input", 422, "The input can't be used"),
        core.CapabilityError: Kind("capability", 422, "The encoder can't give this"),
        core.EncoderError: Kind("encoder", 503, "The encoder can't be used"),
        core.StorageError: Kind("storage", 507, "Nothing could be stored"),
        core.VlmOodError: Kind("internal", 500, "Something went wrong on our side"),
        MalformedBodyError: Kind("malformed-body", 400, "The body can't be parsed"),
        UnauthenticatedError: Kind("unauthenticated", 401, "A key is needed"),
        ForbiddenError: Kind("forbidden", 403, "Not allowed"),
        NotFoundError: Kind("not-found", 404, "Nothing there"),
        BodyTooSlowError: Kind("body-too-slow", 408, "The body didn't arrive in time"),
        ConflictError: Kind("conflict", 409, "Can't be done in this state"),
        BodyTooLargeError: Kind("body-too-large", 413, "The body is too large"),
        UnsupportedBodyError: Kind("unsupported-body", 415, "This content type is not read here"),
        MisdirectedError: Kind("misdirected", 421, "This host is not served here"),
        RateLimitedError: Kind("rate-limited", 429, "The key's rate limit is used up"),
        BusyError: Kind("busy", 503, "Too much in flight"),
        PreparingError: Kind("preparing", 503, "It is being prepared"),
        QueueFull: Kind("queue-full", 503, "The queue is full"),
        Draining: Kind("draining", 503, "The server is shutting down"),
        NotReady: Kind("not-ready", 503, "The server is not ready"),
        WorkerLost: Kind("worker-lost", 503, "The worker died"),
        DeadlineExceeded: Kind("deadline", 504, "Not done in time"),
        EngineError: Kind("engine", 503, "The engine can't answer"),
    }
)


def kind_of(error: core.VlmOodError) -> Kind:
    """The nearest entry of the table."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)


def problem_response(
    kind: Kind, detail: str, request_id: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """An answer of type application/problem+json."""
    content = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": printable(detail[:MAX_DETAIL]),
        "request_id": request_id,
        **more,
    }
    return JSONResponse(content, kind.status, dict(headers or {}), "application/problem+json")


def printable(text: str) -> str:
    """The text without halves of characters, which JSON can't carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def response_to(error: core.VlmOodError, request_id: str) -> JSONResponse:
    """What the caller is told, with the headers that belong to it."""
    kind = kind_of(error)
    detail = "the log has more under this request id" if kind.status == 500 else str(error)
    return problem_response(kind, detail, request_id, headers=_headers(error, kind))


def _headers(error: core.VlmOodError, kind: Kind) -> dict[str, str]:
    headers = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(retry_after_s)))
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers
