"""Answers from the moment at which the process listens until the application can, with the standard library alone."""

import asyncio
import json
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

STARTING: Final = "the server is starting: its encoders are being loaded"

HEAD_BYTES: Final = 16 * 1024
REST_BYTES: Final = 256 * 1024  # read and dropped after the answer, so that a client that still sends reads it
CONNECTION_S: Final = 2.0  # from accept to close
CONNECTIONS: Final = 64  # one more closes the oldest
PAUSE_S: Final = 0.1  # where no connection can be accepted, such as without descriptors


class FirstAnswers:
    """Answers `/livez` 200 and all else 503 in a thread, one request per connection, until the sockets are handed over.

    Args:
        listeners: sockets that listen and don't block; closed at the end of the context, unless they were handed over.
        left_s: seconds until the server is ready.
    """

    def __init__(self, listeners: Sequence[socket.socket], left_s: Callable[[], float]) -> None:
        self._listeners, self._left_s = list(listeners), left_s
        self._open: dict[asyncio.Task[None], None] = {}
        self._begun, self._released = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="first-answers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.hand_over():
            each.close()

    def hand_over(self) -> list[socket.socket]:
        """The sockets, once no further connection is accepted here; those that were are answered all the same."""
        if not self._released.is_set():
            self._loop.call_soon_threadsafe(self._end.set)
            self._released.wait()
        listeners, self._listeners = self._listeners, []
        return listeners

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        for each in self._listeners:
            self._loop.add_reader(each, self._accept, each)
        self._begun.set()
        await self._end.wait()
        for each in self._listeners:
            self._loop.remove_reader(each)
        self._released.set()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self._loop.remove_reader(listener)
            self._loop.call_later(PAUSE_S, self._accept_again, listener)
            return
        connection.setblocking(False)
        if len(self._open) >= CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._answer(connection))
        self._open[task] = None
        task.add_done_callback(lambda done: self._open.pop(done, None))

    def _accept_again(self, listener: socket.socket) -> None:
        if not self._end.is_set():
            self._loop.add_reader(listener, self._accept, listener)

    async def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECTION_S):
                head = await self._head(connection)
                if head is None:
                    return
                await self._loop.sock_sendall(connection, _response(head, self._left_s()))
                connection.shutdown(socket.SHUT_WR)
                await self._drop(connection)

    async def _head(self, connection: socket.socket) -> bytes | None:
        """The head of a request; None where it is too long or doesn't end."""
        head = b""
        while b"\r\n\r\n" not in head:
            part = await self._loop.sock_recv(connection, HEAD_BYTES)
            head += part
            if not part or len(head) > HEAD_BYTES:
                return None
        return head

    async def _drop(self, connection: socket.socket) -> None:
        left = REST_BYTES
        while left > 0 and (part := await self._loop.sock_recv(connection, HEAD_BYTES)):
            left -= len(part)


def _response(head: bytes, left_s: float) -> bytes:
    """The answer to the request that has this head, as the application's own while it starts."""
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    request_id = uuid.uuid4().hex
    lines = [
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        f"X-Request-ID: {request_id}",
    ]
    content: dict[str, str | int]
    if method == b"GET" and rest.partition(b" ")[0].partition(b"?")[0] == b"/livez":
        status, kind, content = "200 OK", "application/json", {"status": "alive"}
    else:
        status, kind, content = "503 Service Unavailable", "application/problem+json", _problem(request_id)
        lines.append(f"Retry-After: {max(1, round(left_s))}")
    body = json.dumps(content).encode()
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + (b"" if method == b"HEAD" else body)


def _problem(request_id: str) -> dict[str, str | int]:
    """What `service.problems` makes of `NotReady`, which can't be imported yet; a test compares them."""
    return {
        "type": "urn:vlm-ood:problem:not-ready",
        "title": "The server is not ready",
        "status": 503,
        "detail": STARTING,
        "request_id": request_id,
    }
