"""A timer whose time may change often: moving it to a later time costs no call of the event loop."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls a function once, at the time that was set last.

    Args:
        loop: on whose clock the time is given.
        ring: is called; it may set the alarm again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        """Ring at this time in place of any other; None for never."""
        self._at = at
        if at is None or (self._timer is not None and self._timer.when() <= at):
            return  # the timer finds the later time when it expires
        self.cancel()
        self._at = at
        self._timer = self._loop.call_at(at, self._expire)

    def cancel(self) -> None:
        """Never ring, and release the timer."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self.set(self._at)
            return
        self._at = None
        self._ring()
