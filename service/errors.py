"""One table from what went wrong to what HTTP says about it: RFC 9457 problems."""

from dataclasses import dataclass

from vlm_ood import errors as core


class ServiceError(core.VlmOodError):
    """Something that only a server can say."""


class MalformedBodyError(ServiceError):
    """A body that can't be parsed."""


class UnauthenticatedError(ServiceError):
    """No key, or one that isn't known."""


class ForbiddenError(ServiceError):
    """A known caller who may not do this."""


class NotFoundError(ServiceError):
    """Nothing there, or nothing of this tenant's."""


class ConflictError(ServiceError):
    """True a moment ago, or one too many."""


class BodyTooLargeError(ServiceError):
    """More bytes or parts than a request may hold."""


class BodyTooSlowError(ServiceError):
    """A body that didn't arrive in time."""


class UnsupportedBodyError(ServiceError):
    """A content type that this route doesn't read."""


class MisdirectedError(ServiceError):
    """A Host header that isn't ours."""


@dataclass
class RetryableError(ServiceError):
    """Not now."""

    message: str
    retry_after_s: float

    def __str__(self) -> str:
        return self.message


class RateLimitedError(RetryableError):
    """A key used up its images."""


class BusyError(RetryableError):
    """Too many bytes in flight."""


class PreparingError(RetryableError):
    """A detector or a bank is still being made."""
