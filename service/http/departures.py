"""Ends the work of a request whose client has left, or whose server stops."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.lifecycle import Lifecycle
from service.problems import response_to
from service.request_id import request_id_of


@dataclass(frozen=True)
class DepartureMiddleware:
    """Cancels the application when nobody waits for its answer any more.

    A client that leaves, in the middle of its body or after it, gets no answer, and the request counts as 499. One
    that the stop of the server ends is answered 503.

    Args:
        app: what comes after; it never sees that the client has left.
        lifecycle: of the server.
    """

    app: ASGIApp
    lifecycle: Lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application until it has answered, the client has left or the server ends the request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        work = asyncio.ensure_future(self.app(scope, exchange.receive, exchange.send))
        watch = asyncio.ensure_future(exchange.departure())
        try:
            with self.lifecycle.attending(exchange):
                await asyncio.wait({work, watch, exchange.stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut = not work.done()
            for task in (work, watch):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        with contextlib.suppress(asyncio.CancelledError) if cut else contextlib.nullcontext():
            await work
        if cut and not exchange.left and not exchange.answered:
            await response_to(self.lifecycle.draining(), request_id_of(scope))(scope, receive, send)


class _Exchange:
    """The messages of one request, and what they tell.

    Attributes:
        left: whether the client has left.
        answered: whether an answer has begun.
        stop: done when the server ends the request.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._received = asyncio.Event()
        self.left = self.answered = False
        self.stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def uploading(self) -> bool:
        """Whether a part of the body is to come."""
        return not self._received.is_set()

    def end(self) -> None:
        """End the request, because the server stops."""
        if not self.stop.done():
            self.stop.set_result(None)

    async def receive(self) -> Message:
        """The next part of the body. A reader that waits for more than there is, is cancelled with the application."""
        if not self._received.is_set():
            message = await self._receive()
            self.left = message["type"] == "http.disconnect"
            if self.left or not message.get("more_body", False):
                self._received.set()
            if not self.left:
                return message
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        self.answered = True
        await self._send(message)

    async def departure(self) -> None:
        """Return when the client has left."""
        await self._received.wait()
        while not self.left:
            self.left = (await self._receive())["type"] == "http.disconnect"
