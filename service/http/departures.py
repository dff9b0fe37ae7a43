"""Cancels the work of a request whose client has disconnected."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class DepartureMiddleware:
    """Watches the connection once the body is complete.

    Args:
        app: what comes after; cancelled when the client disconnects.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application until it has answered or the client has disconnected."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self.app(scope, receive, send)
            return
        body_complete = asyncio.Event()

        async def until_complete() -> Message:
            if body_complete.is_set():
                await asyncio.Event().wait()  # a reader that waits for the end is cancelled with the application
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                body_complete.set()
            return message

        async def departure() -> None:
            await body_complete.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        work = asyncio.ensure_future(self.app(scope, until_complete, send))
        watch = asyncio.ensure_future(departure())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = not work.done()
            for task in (work, watch):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        with contextlib.suppress(asyncio.CancelledError) if left else contextlib.nullcontext():
            await work
