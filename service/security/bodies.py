"""Limits request bodies while they arrive: bytes per body, bytes of all bodies together, and seconds per body."""

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLargeError, BodyTooSlowError, BusyError, MalformedBodyError, ServiceError
from service.problems import response_to
from service.request_id import request_id_of
from service.security.access import tenant_of
from service.security.budget import ByteBudget, ByteShare


@dataclass(frozen=True)
class BodyLimits:
    """Limits of bodies.

    Args:
        json_bytes: of a JSON body.
        body_bytes: of any other body.
        in_flight: counts the bytes of all bodies, and of images fetched for them.
        timeout_s: seconds until the last byte of a body.
        pause_s: seconds between two parts of a body.
    """

    json_bytes: int
    body_bytes: int
    in_flight: ByteBudget
    timeout_s: float
    pause_s: float = 15.0


class BodyMiddleware:
    """Stops reading a body at its limit, before anything is parsed or written to disk."""

    def __init__(self, app: ASGIApp, limits: BodyLimits) -> None:
        self._app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application with a `receive` that counts bytes, and answer in its place when a limit is exceeded."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self.limits.in_flight.share(tenant_of(scope)) as share:
            body = _Body(self, share, scope, receive, send)
            try:
                body.check_length()
                await self._app(scope, body.receive, body.send)
            except ServiceError as error:
                if error is not body.failure:
                    raise
        if body.failure is not None and not body.answered:
            response = response_to(body.failure, request_id_of(scope))
            response.headers["Connection"] = "close"  # the rest of the body is not wanted
            await response(scope, receive, send)

    def limit_of(self, headers: Headers) -> int:
        """Bytes that a body of this content type may have."""
        is_json = "json" in headers.get("content-type", "")
        return self.limits.json_bytes if is_json else self.limits.body_bytes


class _Body:
    """The body of one request."""

    def __init__(self, owner: BodyMiddleware, share: ByteShare, scope: Scope, receive: Receive, send: Send) -> None:
        self._owner, self._share, self._receive, self._send = owner, share, receive, send
        self._headers = Headers(scope=scope)
        self._limit = owner.limit_of(self._headers)
        self._ends_at: float | None = None
        self._complete = False
        self.answered = False
        self.failure: ServiceError | None = None

    def check_length(self) -> None:
        """Refuse a body by its Content-Length, before its first byte is read."""
        length = self._headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise self._fail(MalformedBodyError(f"Content-Length {length[:20]!r} is not a number"))
        if int(length[:20]) > self._limit:
            raise self._fail(self._too_large())

    async def receive(self) -> Message:
        """Receive the next message and count its bytes."""
        if self._complete:
            return await self._receive()  # waits for the client to leave
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + self._owner.limits.timeout_s
        limits, now = self._owner.limits, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(self._ends_at, now + limits.pause_s)):
                message = await self._receive()
        except TimeoutError:
            raise self._fail(
                BodyTooSlowError(
                    f"the body took more than {limits.timeout_s:g} s, or {limits.pause_s:g} s between two parts: "
                    "send fewer images per request"
                )
            ) from None
        self._count(message)
        return message

    def _count(self, message: MutableMapping[str, Any]) -> None:
        size = len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        try:
            self._share.take(size)
        except BusyError as error:
            raise self._fail(error) from None
        if self._share.taken > self._limit:
            raise self._fail(self._too_large())

    async def send(self, message: Message) -> None:
        """Send the application's answer, unless the body has failed before the answer began."""
        if self.failure is not None and not self.answered:
            return
        self.answered = True
        await self._send(message)

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"the body is larger than {self._limit:,} bytes: send fewer or smaller images per request, "
            "or files (multipart) in place of base64"
        )

    def _fail(self, error: ServiceError) -> ServiceError:
        self.failure = error
        return error
