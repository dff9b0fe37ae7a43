"""Ends a connection whose client reads its answers too slowly."""

import asyncio
from collections.abc import Callable
from typing import Final

from service.security.alarm import Alarm

MIN_BYTES_PER_S: Final = 1024  # that a reader takes


class WriteWatch:
    """Measures again and again how many of the bytes that wait to be written were taken.

    Args:
        loop: on whose clock the time is measured.
        transport: of the connection.
        every_s: seconds between two measurements.
        abort: is called when too few were taken.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, every_s: float, abort: Callable[[], None]
    ) -> None:
        self._loop, self._transport, self._every_s, self._abort = loop, transport, every_s, abort
        self._alarm = Alarm(loop, self._check)
        self._unwritten = 0

    def begin(self) -> None:
        """Watch until all is written, or the watch is ended."""
        self._unwritten = self._transport.get_write_buffer_size()
        self._alarm.set(self._loop.time() + self._every_s if self._unwritten else None)

    def end(self) -> None:
        """Watch no longer."""
        self._alarm.set(None)

    def cancel(self) -> None:
        """The same, and release the timer."""
        self._alarm.cancel()

    def _check(self) -> None:
        taken = self._unwritten - self._transport.get_write_buffer_size()
        if taken < min(self._unwritten, MIN_BYTES_PER_S * self._every_s):
            self._abort()
        else:
            self.begin()
