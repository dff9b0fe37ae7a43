"""When a request is repeated, and after how many seconds."""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Generic, TypeVar

import httpx

from vlm_ood.client.asks import Ask, Call
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
    """How often and how long a request is repeated after 429, 503 and lost connections.

    Args:
        attempts: of one request, the first included.
        total_s: a retry that would begin later than this after the first attempt is not made.
        first_s: the longest first pause; it doubles with each attempt, and half of it is random, so that many clients
            don't repeat their requests at the same moment.
        longest_s: of a pause that the server did not ask for.
    """

    attempts: int = 5
    total_s: float = 120.0
    first_s: float = 0.5
    longest_s: float = 20.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ParameterError(f"attempts is {self.attempts}: at least 1, the first")

    def pause_s(self, attempt: int, reply: Reply, jitter: random.Random) -> float:
        """What `Retry-After` says, else back-off, before attempt number `attempt` + 1."""
        asked = retry_after_s(reply.headers) if isinstance(reply, httpx.Response) else None
        if asked is not None:
            return asked
        return min(self.longest_s, self.first_s * 2.0 ** min(attempt - 1, 60)) * jitter.uniform(0.5, 1)


PATIENT: Final = Retries()


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds from now; a date is compared with the server's own `Date`, so that clocks needn't agree."""
    given = headers.get("Retry-After", "").strip()
    if given.isascii() and given.isdigit():
        return float(given)
    then = _moment(given)
    if then is None:
        return None
    now = _moment(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (then - now).total_seconds())


def patiently(
    call: Call[T], retries: Retries, clock: Callable[[], float], jitter: random.Random
) -> Generator[Ask | Pause, Reply, T]:
    """The same call, with pauses and repetitions between what it asks.

    Raises:
        ServerError: the server could not be reached.
    """
    try:
        ask = next(call)
        while True:
            if ask.after_s:
                yield Pause(ask.after_s)
            ask = call.send((yield from _insist(ask, retries, clock, jitter)))
    except StopIteration as end:
        done: T = end.value
        return done


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end of a call; an exception of its own could not leave a thread."""

    value: T


def advance(talk: Generator[Ask | Pause, Reply, T], reply: Reply) -> Ask | Pause | Done[T]:
    """The next step of a conversation; `reply` is None at the start and after a pause."""
    try:
        return talk.send(reply)
    except StopIteration as end:
        return Done(end.value)


def _insist(
    ask: Ask, retries: Retries, clock: Callable[[], float], jitter: random.Random
) -> Generator[Ask | Pause, Reply, httpx.Response]:
    started = clock()
    for attempt in range(1, retries.attempts + 1):
        reply = yield ask
        if not _worth_repeating(ask, reply) or attempt >= retries.attempts:
            break
        seconds = retries.pause_s(attempt, reply, jitter)
        if clock() - started + seconds > retries.total_s:
            break
        yield Pause(seconds)
    if not isinstance(reply, httpx.Response):
        raise ServerError(None, "no answer", f"{type(reply).__name__} {reply} after {attempt} attempts: is it running?")
    return reply


def _worth_repeating(ask: Ask, reply: Reply) -> bool:
    if isinstance(reply, httpx.Response):
        return reply.status_code in (429, 503)
    return isinstance(reply, LOST if ask.repeatable else NEVER_ARRIVED)


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
