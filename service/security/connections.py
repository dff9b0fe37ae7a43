"""HTTP/1.1 with limits on every state of a connection; uvicorn alone limits only the pause between two requests.

`admittance` limits how many there are, and `bodies` limits the bodies that the application reads.
"""

import asyncio
import contextlib
import socket
import struct
from enum import Enum
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import BusyError, MalformedRequestError, ServiceError
from service.problems import response_to
from service.request_id import request_id_of
from service.security.admittance import RETRY_AFTER_S, Admittance, HealthOnly, Place
from service.security.alarm import Alarm
from service.security.intake import Intake, Turns
from service.security.lingering import LingeringTransport
from service.security.request_form import RequestForm
from service.security.time_limits import TimeLimits
from service.security.write_watch import WriteWatch

MAX_PIPELINED: Final = 32  # requests that wait for the answer to an earlier one

STEPS_PER_TURN: Final = 64  # of the parser, without a turn for other connections
HEAD_STEPS: Final = 32  # a head costs as much as so many chunks: the second one of a turn waits


class Part(Enum):
    """What part of a request arrives next."""

    HEAD_BEGIN = "the first byte of a head"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"


class GuardedProtocol(HttpToolsProtocol):
    """One connection: which part of a request is due, and until when.

    Args:
        admittance: gives the connection its place.
        times: limits of each state.
        turns: of connections whose bytes are costly to parse.
    """

    def __init__(self, *args: Any, admittance: Admittance, times: TimeLimits, turns: Turns, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._admittance, self._times, self._turns = admittance, times, turns
        self._alarm = Alarm(self.loop, self._ring)
        self._part = Part.HEAD_BEGIN
        self._form = RequestForm()
        self._steps = 0
        self._closing = False
        self._running: Any = None  # the cycle whose answer is being made; `cycle` is the newest

    # the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or refuse the connection at once."""
        self._wire = transport
        self._intake = Intake(transport, self._feed, self._turns)
        self._writing = WriteWatch(self.loop, transport, self._times.write_s, self._abort)
        super().connection_made(LingeringTransport(transport, self._close, self._intake))
        self._place: Place | None = self._admittance.enter(self, self.client[0] if self.client else None)
        if self._place is None:
            self._refuse(BusyError("too many connections are open: try again later", RETRY_AFTER_S))
            return
        if self._place == "reserve":
            self.app = HealthOnly(self.app)
        self._allow(self._head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back, and tell the application that the client has left."""
        self._closing = True
        self._alarm.cancel()
        self._writing.cancel()
        self._admittance.leave(self)
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes, at once or in turns."""
        self._intake.received(data)

    def pause_writing(self) -> None:
        """Watch how fast the client reads."""
        super().pause_writing()
        self._writing.begin()

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        self._writing.end()

    def shutdown(self) -> None:
        """Close unless something is asked; a request whose head has begun is answered."""
        if self._part is Part.HEAD_BEGIN and self._answered():
            self.transport.close()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    def make_room(self) -> None:
        """Close, because another connection needs the place."""
        self._end()

    # the parser

    def _feed(self, data: memoryview) -> bool:
        """Parse a part; whether it was costly. What comes after the answer to a refused request is dropped."""
        if self._closing:
            return False
        self._steps = 0
        self._form.feed()
        super().data_received(data)  # type: ignore[arg-type]
        if self._part is Part.HEAD:
            self._refuse(self._form.fed_head(len(data)))
        elif self._part is Part.BODY:
            self._refuse(self._form.fed_body(len(data)))
        return self._steps >= STEPS_PER_TURN

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._steps += HEAD_STEPS
        self._form.head_begins()
        self._part = Part.HEAD
        self._allow(self._head_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped."""
        if self._part is not Part.HEAD or self._closing:
            return
        super().on_header(name, value)
        self._refuse(self._form.fed_header(len(self.headers)))

    def on_headers_complete(self) -> None:
        """The head is complete: the request begins, or waits for the answers to earlier ones."""
        self._refuse(self._form.fed_whole_head(self.url, self.headers))
        if not self._closing and len(self.pipeline) >= MAX_PIPELINED:
            self._abort()
        if self._closing:
            return
        self._form.body_begins()
        self._part = Part.BODY
        self._admittance.works(self)
        super().on_headers_complete()
        if self._place == "reserve":
            self.cycle.keep_alive = False
        self._allow(self._times.body_s)

    def on_chunk_header(self) -> None:
        """Count the chunk, whose frame is no excess."""
        self._steps += 1
        self._form.chunk()

    def on_body(self, body: bytes) -> None:
        """Count and keep content of the body."""
        self._form.content(len(body))
        if not self._closing:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._closing:
            return
        super().on_message_complete()
        self._part = Part.HEAD_BEGIN
        self._await_next()

    def on_response_complete(self) -> None:
        """The answer is complete: begin the next request of the pipeline, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._part is Part.BODY:
            self._allow(self._times.unread_s)
        elif self._part is Part.HEAD_BEGIN:
            self._await_next()

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be parsed."""
        self._refuse(MalformedRequestError("the request is not valid HTTP/1.1"))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        """No warning for each request that asks for another protocol: it is answered in this one."""

    # limits

    @property
    def _head_s(self) -> float:
        return self._times.reserve_head_s if self._place == "reserve" else self._times.head_s

    def _answered(self) -> bool:
        return self._running is None or (self._running.response_complete and not self.pipeline)

    def _await_next(self) -> None:
        if self._answered():
            self._admittance.idles(self)
            self._allow(self._times.keep_alive_s)
        else:
            self._allow(float("inf"))  # the application has time limits of its own

    def _refuse(self, error: ServiceError | None) -> None:
        """If there is an error, answer it in place of the application, and close."""
        if error is None or self._closing:
            return
        if not self._answered():
            if self._running.response_started or self.pipeline:
                self._abort()  # an answer can't be put between
                return
            self._running.disconnected = True
            self._running.message_event.set()
        self._wire.write(_raw_answer(error))
        self.transport.close()

    # time

    def _allow(self, seconds: float) -> None:
        """So long for the present part."""
        self._alarm.set(None if seconds == float("inf") else self.loop.time() + seconds)

    def _ring(self) -> None:
        if self._closing:
            self._abort()
        elif self._part is Part.BODY and self.flow.read_paused:
            self._allow(self._times.body_s)  # the client waits for the application
        else:
            self._end()

    # the end

    def _close(self) -> None:
        """Close after an answer; the rest of its request is received and dropped, else it could be lost."""
        if self._closing:
            return
        if self._part is Part.HEAD_BEGIN or not self._wire.can_write_eof():
            self._end()
            return
        self._closing = True
        self.flow.resume_reading()
        self._wire.write_eof()
        self._allow(self._times.unread_s)

    def _end(self) -> None:
        """Close when all has been written, unless the client doesn't read it."""
        self._closing = True
        self._allow(float("inf"))
        self._wire.close()
        self._writing.begin()

    def _abort(self) -> None:
        """Close at once; the system, too, forgets what the client hasn't read."""
        self._closing = True
        connection = self._wire.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._wire.abort()


def _raw_answer(error: ServiceError) -> bytes:
    """The bytes of a problem document."""
    response = response_to(error, request_id_of({"type": "http", "headers": []}))
    response.headers["Connection"] = "close"
    head = [b"%s: %s\r\n" % header for header in response.raw_headers]
    return b"".join([STATUS_LINE[response.status_code], *head, b"\r\n", bytes(response.body)])
