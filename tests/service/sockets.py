"""Clients that speak HTTP by hand, and badly."""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx


@contextmanager
def connected(url: str, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection whose calls fail after ten seconds."""
    with socket.socket() as connection:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", httpx.URL(url).port or 0))
        yield connection


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    parts = []
    while part := connection.recv(100_000):
        parts.append(part)
    return b"".join(parts)


def answer(connection: socket.socket) -> bytes:
    """The first bytes of an answer: its head, and what comes with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(100_000)
        assert part, f"closed after {got!r}"
        got += part
    return got


def reset(connection: socket.socket) -> bool:
    """Whether the server resets the connection within ten seconds; nothing is read."""
    watch = select.poll()
    watch.register(connection, select.POLLERR | select.POLLHUP)
    return bool(watch.poll(10_000))


def wait_for_refusal(url: str) -> None:
    """Until the server accepts no connections."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=10).close()
        except ConnectionError:
            return


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
