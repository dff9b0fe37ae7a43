"""Limits on the form of a request: its head, and the bytes of a chunked body that are no content."""

from collections.abc import Sequence
from typing import Final

from service.errors import HeadTooLargeError, MalformedRequestError, ServiceError

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 128
MAX_CHUNK_EXCESS: Final = 8 * 1024  # bytes of a chunked body that are neither content nor the frames of its chunks
CHUNK_FRAME_BYTES: Final = 16  # its length in hexadecimal and two ends of lines


class RequestForm:
    """Counts the bytes of one request at a time, as they are fed to a parser.

    What was fed together with the beginning of a head or a body isn't counted: one read of a socket bounds it.
    """

    def __init__(self) -> None:
        self._head_bytes = self._excess = self._content = self._chunks = 0
        self._begun = False

    def feed(self) -> None:
        """More is fed."""
        self._content = self._chunks = 0
        self._begun = False

    def head_begins(self) -> None:
        """The first byte of a head was fed."""
        self._head_bytes, self._begun = 0, True

    def body_begins(self) -> None:
        """The last byte of a head was fed."""
        self._excess, self._begun = 0, True

    def chunk(self) -> None:
        """The frame of a chunk was fed."""
        self._chunks += 1

    def content(self, count: int) -> None:
        """So many bytes of content were fed."""
        self._content += count

    def fed_header(self, number: int) -> ServiceError | None:
        """Why a head with this number of headers is refused."""
        return HeadTooLargeError(f"more than {MAX_HEADERS} headers: send fewer") if number > MAX_HEADERS else None

    def fed_whole_head(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> ServiceError | None:
        """Why a complete head is refused."""
        if len(url) + sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
            return _head_too_large()
        return None

    def fed_head(self, count: int) -> ServiceError | None:
        """Why a head is refused of which so many more bytes were fed, but not its end."""
        self._head_bytes += 0 if self._begun else count
        return _head_too_large() if self._head_bytes > MAX_HEAD_BYTES else None

    def fed_body(self, count: int) -> ServiceError | None:
        """Why a body is refused of which so many more bytes were fed, but not its end."""
        allowed = self._content + CHUNK_FRAME_BYTES * self._chunks
        self._excess = 0 if self._begun else max(0, self._excess + count - allowed)
        if self._excess <= MAX_CHUNK_EXCESS:
            return None
        return MalformedRequestError(f"more than {MAX_CHUNK_EXCESS:,} bytes of chunk extensions or trailers")


def _head_too_large() -> HeadTooLargeError:
    return HeadTooLargeError(f"the head of the request is larger than {MAX_HEAD_BYTES:,} bytes: send fewer headers")
