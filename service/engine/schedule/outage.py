"""Predicts when a worker takes batches again, from how long the last start took."""

from collections.abc import Callable

from service.start_time import AT_LEAST_S, left_s


class Outage:
    """Follows one worker: a pause, a start, and then it is ready, until it is lost.

    Args:
        now: in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._took_s = 0.0
        self._begins = now()

    def begin(self, pause_s: float = 0.0) -> None:
        """The worker is started after so many seconds."""
        self._begins = self._now() + pause_s

    def end(self) -> None:
        """The worker takes batches: the next start is predicted to take as long as this one."""
        self._took_s = self._now() - self._begins

    def left_s(self) -> float:
        """Seconds until the worker that is being started takes batches."""
        return left_s(self._took_s, self._now() - self._begins)

    def whole_s(self, pause_s: float) -> float:
        """Seconds until a worker takes batches that is started after so many seconds."""
        return max(AT_LEAST_S, pause_s + self._took_s)
