"""A uvicorn server that listens while its application starts, and whose stop takes a bounded time."""

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn

from service.lifecycle import Lifecycle
from service.observability.seldom import Seldom

STOP_S: Final = 2.0  # for all that comes after the last answer of a stop

log = structlog.get_logger("vlm_ood")


class Server(uvicorn.Server):
    """Ends when the start of the application has failed, and in time when it is told to stop.

    Args:
        config: of uvicorn.
        lifecycle: of the application.
        drain_s: how long a stop waits for requests.
        overdue: is called in a thread of its own when a stop takes longer than `drain_s` and `STOP_S`.
    """

    def __init__(
        self, config: uvicorn.Config, lifecycle: Lifecycle, drain_s: float, overdue: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self._lifecycle, self._drain_s, self._overdue = lifecycle, drain_s, overdue
        self._watchdog: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and listen."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop: when told to, or when the start has failed."""
        return await super().on_tick(counter) or self._lifecycle.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new requests, wait for the others, and stop the application."""
        self._watch()
        self._lifecycle.stop()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that the server is to stop; from now on its time runs, even if the event loop is busy."""
        super().handle_exit(sig, frame)
        self._watch()

    def _watch(self) -> None:
        if self._overdue is None or self._watchdog is not None:
            return
        limit_s = STOP_S + (self._drain_s if self._lifecycle.started else 0.0)
        self._watchdog = threading.Timer(limit_s, self._overdue)
        self._watchdog.daemon = True
        self._watchdog.start()


class LoopErrors:
    """Handles errors of the event loop; those that come with every connection are logged once per minute."""

    def __init__(self) -> None:
        self._seldom = Seldom()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log the error."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
            loop.default_exception_handler(context)
        elif self._seldom.now():
            log.error("no connection can be accepted", error=str(error), remedy="raise the limit: ulimit -n")
