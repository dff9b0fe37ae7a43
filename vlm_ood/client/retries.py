"""When a request is sent again, and how long the client waits before that."""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Generic, TypeVar

import httpx

from vlm_ood.client.requests import ApiRequest, Call
from vlm_ood.errors import ParameterError, ServerError

T = TypeVar("T")

Reply = httpx.Response | httpx.RequestError | None  # None after a pause

NEVER_ARRIVED: Final = (httpx.ConnectError, httpx.ConnectTimeout)
LOST: Final = (*NEVER_ARRIVED, httpx.NetworkError, httpx.RemoteProtocolError)


@dataclass(frozen=True)
class Pause:
    """Wait before the next request."""

    seconds: float


@dataclass(frozen=True)
class Retries:
    """How often and how long a request is repeated after the status 429 or 503, or a lost connection.

    Args:
        attempts: how often one request is sent at most.
        total_s: no attempt starts later than this many seconds after the first.
        first_s: the longest first pause; it doubles with each attempt. A pause is a random share of it, at least half,
            so that many clients don't send again at the same time.
        longest_s: the longest pause where the response has no `Retry-After`.
    """

    attempts: int = 5
    total_s: float = 120.0
    first_s: float = 0.5
    longest_s: float = 20.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ParameterError(f"attempts is {self.attempts}: give at least 1")

    def pause_s(self, attempt: int, reply: Reply, rng: random.Random) -> float:
        """Return the seconds to wait after an attempt: those of `Retry-After`, or else an exponential back-off."""
        asked = retry_after_s(reply.headers) if isinstance(reply, httpx.Response) else None
        if asked is not None:
            return asked
        return min(self.longest_s, self.first_s * 2.0 ** min(attempt - 1, 60)) * rng.uniform(0.5, 1)


DEFAULT_RETRIES: Final = Retries()


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Return the seconds in `Retry-After`; a date is compared with the server's `Date`, not with the local clock."""
    given = headers.get("Retry-After", "").strip()
    if given.isascii() and given.isdigit():
        return float(given)
    then = _moment(given)
    if then is None:
        return None
    now = _moment(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (then - now).total_seconds())


def with_retries(
    call: Call[T], retries: Retries, clock: Callable[[], float], rng: random.Random
) -> Generator[ApiRequest | Pause, Reply, T]:
    """Run a call, with pauses and repeated requests; yields each request, and each pause before the next one.

    Raises:
        ServerError: the server could not be reached.
    """
    try:
        request = next(call)
        while True:
            if request.after_s:
                yield Pause(request.after_s)
            request = call.send((yield from _repeated(request, retries, clock, rng)))
    except StopIteration as end:
        done: T = end.value
        return done


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end of a call. It is a value because a StopIteration can't be passed on from a thread to a coroutine."""

    value: T


def advance(steps: Generator[ApiRequest | Pause, Reply, T], reply: Reply) -> ApiRequest | Pause | Done[T]:
    """Return the next request or pause, or the result; `reply` is None at the start and after a pause."""
    try:
        return steps.send(reply)
    except StopIteration as end:
        return Done(end.value)


def _repeated(
    request: ApiRequest, retries: Retries, clock: Callable[[], float], rng: random.Random
) -> Generator[ApiRequest | Pause, Reply, httpx.Response]:
    started = clock()
    for attempt in range(1, retries.attempts + 1):
        reply = yield request
        if not _worth_repeating(request, reply) or attempt >= retries.attempts:
            break
        seconds = retries.pause_s(attempt, reply, rng)
        if clock() - started + seconds > retries.total_s:
            break
        yield Pause(seconds)
    if not isinstance(reply, httpx.Response):
        raise ServerError(None, "no answer", f"{type(reply).__name__} {reply} after {attempt} attempts: is it running?")
    return reply


def _worth_repeating(request: ApiRequest, reply: Reply) -> bool:
    if isinstance(reply, httpx.Response):
        return reply.status_code in (429, 503)
    return isinstance(reply, LOST if request.repeatable else NEVER_ARRIVED)


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
