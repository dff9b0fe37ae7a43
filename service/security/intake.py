"""Hands what a connection receives to its parser in small parts, so that no read holds the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PART_BYTES: Final = 1024  # 170 chunks of one byte at most: 0.3 ms


class Turns:
    """Continues what was put off, of all connections, one at a time with a turn of the event loop before each."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def put_off(self, go_on: Callable[[], None]) -> None:
        """Call it when those that wait have had their turn."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._schedule()

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        go_on = self._waiting.popleft()
        if self._waiting:
            self._schedule()
        go_on()


class Intake:
    """What one connection has received and its parser hasn't been fed yet; nothing more is read meanwhile.

    Args:
        transport: of the connection.
        feed: takes a part; whether it was costly, so that the next part is put off.
        turns: of all connections.
    """

    def __init__(self, transport: asyncio.Transport, feed: Callable[[memoryview], bool], turns: Turns) -> None:
        self._transport, self._feed, self._turns = transport, feed, turns
        self._left = memoryview(b"")
        self._paused = False  # by the owner

    def received(self, data: bytes) -> None:
        """Feed the bytes, after those that wait."""
        if self._left:
            self._left = memoryview(bytes(self._left) + data)
            return
        self._left = memoryview(data)
        self._feed_parts()
        if self._left:
            self._transport.pause_reading()

    def pause(self) -> None:
        """Read no more."""
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, once all is fed."""
        self._paused = False
        if not self._left:
            self._transport.resume_reading()

    def _feed_parts(self) -> None:
        costly = False
        while self._left and not costly:
            part, self._left = self._left[:PART_BYTES], self._left[PART_BYTES:]
            costly = self._feed(part)
        if self._left:
            self._turns.put_off(self._go_on)

    def _go_on(self) -> None:
        self._feed_parts()
        if not (self._left or self._paused or self._transport.is_closing()):
            self._transport.resume_reading()
