"""Whether the server starts, serves or stops, and what a request is told meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from service.engine import Draining, NotReady
from service.first_answers import STARTING
from service.start_time import StartTime


class Attended(Protocol):
    """A request, as far as a stop concerns it."""

    @property
    def uploading(self) -> bool:
        """Whether a part of its body is to come."""

    def end(self) -> None:
        """Answer it 503, because the server stops."""


class Lifecycle:
    """The life of a server: it starts, serves and stops.

    A stop takes `drain_s`: a request whose body arrives within the first half is handled, and all end at its end.

    Args:
        drain_s: how long a stop waits for requests.

    Attributes:
        failure: why the start failed.
        settle: is called at the end of a start, before the first request.
        start_time: tells how long the start will take.
    """

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._started = self._stopping = False
        self._attended: set[Attended] = set()
        self.failure: Exception | None = None
        self.settle: Callable[[], None] = lambda: None
        self.start_time = StartTime()

    @property
    def started(self) -> bool:
        """Whether requests have been handled since the start."""
        return self._started

    def check(self) -> None:
        """Return if requests are handled.

        Raises:
            NotReady: the server starts.
            Draining: it stops.
        """
        if self._stopping:
            raise self.draining()
        if not self._started:
            raise NotReady(STARTING, self.start_time.left_s())

    def draining(self) -> Draining:
        """The error of a request that comes during a stop, or that it ends."""
        return Draining("the server is stopping: try again when it is back", self._drain_s)

    async def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work of the start, after which requests are handled.

        Raises:
            Exception: what the work raises; kept in `failure`.
        """
        try:
            await work()
            self.start_time.end()
            self.settle()
        except Exception as error:
            self.failure = error
            raise
        self._started = True

    def stop(self) -> None:
        """Refuse new requests from now on, and end the others in time."""
        if self._stopping:
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        loop.call_later(self._drain_s / 2, self._end_uploads)
        loop.call_later(self._drain_s, self._end_all)

    @contextmanager
    def attending(self, request: Attended) -> Iterator[None]:
        """End the request within this context when a stop has no more time for it."""
        self._attended.add(request)
        try:
            yield
        finally:
            self._attended.discard(request)

    def _end_uploads(self) -> None:
        for request in self._attended:
            if request.uploading:
                request.end()

    def _end_all(self) -> None:
        for request in self._attended:
            request.end()
