"""Closes a connection so that the answer arrives although the rest of the request was not read."""

import asyncio
from collections.abc import Callable
from typing import Any

from service.security.intake import Intake


class LingeringTransport(asyncio.Transport):
    """A transport whose `close` is decided by its owner, and whose pauses of reading by its intake.

    A socket that is closed while bytes of the client are unread resets the connection, and the client may lose the
    answer. The owner sends the end of the stream first, drops what still arrives, and closes then.

    Args:
        transport: of the connection.
        close: is called in place of its `close`.
        intake: reads from it.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], intake: Intake) -> None:
        super().__init__()
        self._transport, self._close, self._intake = transport, close, intake
        self._closing = False

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._close()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def write(self, data: Any) -> None:
        self._transport.write(data)

    def pause_reading(self) -> None:
        self._intake.pause()

    def resume_reading(self) -> None:
        self._intake.resume()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()
