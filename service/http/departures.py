"""A caller who hangs up stops costing anything: the work for the answer is cancelled."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class DepartureMiddleware:
    """Watches the connection once the body is there.

    Args:
        app: what comes after; cancelled when the caller leaves.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on until there is an answer or nobody to give it to."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self.app(scope, receive, send)
            return
        body_is_there = asyncio.Event()

        async def until_complete() -> Message:
            if body_is_there.is_set():
                await asyncio.Event().wait()  # whoever listens for the end is cancelled by it
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                body_is_there.set()
            return message

        async def departure() -> None:
            await body_is_there.wait()
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
