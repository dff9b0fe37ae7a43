"""The errors that only a server raises; `service.problems` maps each to a status of HTTP."""

from dataclasses import dataclass

from vlm_ood import errors as core


class ServiceError(core.VlmOodError):
    """The root of the errors that only a server raises."""


class MalformedBodyError(ServiceError):
    """A body that can't be parsed."""


class MalformedRequestError(ServiceError):
    """A request that is not valid HTTP, or exceeds a limit of its form."""


class HeadTooLargeError(ServiceError):
    """A request with too many or too long headers."""


class UnauthenticatedError(ServiceError):
    """The request has no key, or an unknown, revoked one."""


class ForbiddenError(ServiceError):
    """The key lacks the access that the route needs."""


class NotFoundError(ServiceError):
    """Nothing of that id exists for this tenant."""


class ConflictError(ServiceError):
    """The request contradicts the present state: changed by another request, in use, or over a quota."""


class BodyTooLargeError(ServiceError):
    """A request with too many bytes, files or fields."""


class BodyTooSlowError(ServiceError):
    """A body that did not arrive in time."""


class UnsupportedBodyError(ServiceError):
    """A content type that this route does not accept."""


class MisdirectedError(ServiceError):
    """The Host header names a host that this server does not serve."""


@dataclass
class RetryableError(ServiceError):
    """The same request may succeed later; `retry_after_s` says when."""

    message: str
    retry_after_s: float

    def __str__(self) -> str:
        return self.message


class RateLimitedError(RetryableError):
    """The key has used up its images per minute."""


class BusyError(RetryableError):
    """Too many bytes or too much work is being handled at once."""


class PreparingError(RetryableError):
    """A detector or a bank is still being prepared."""


class UrlError(core.ImageError):
    """A URL that is not fetched, or that gave no image."""
