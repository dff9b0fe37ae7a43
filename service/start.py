"""Starts the server: it listens and answers within its first second, and imports the application meanwhile."""

import errno
import os
import socket
from typing import Any, Final

from service.first_answers import FirstAnswers
from service.memory import give_memory_back
from service.settings import Settings, SettingsError
from service.start_time import StartTime

BACKLOG: Final = 2048  # as uvicorn's
ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})  # IPv6 of "localhost" on a machine without it


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; `/livez` answers before the application is imported, which takes seconds.

    Raises:
        SettingsError: the address can't be listened on, or other machines can connect and there are no keys.
        SystemExit: the server can't start, as `service.run.run` says.
    """
    give_memory_back()
    start = StartTime(settings.data / "last-start")
    with FirstAnswers(listen(settings.host, settings.port), start.left_s) as first:
        from service.run import run

        run(settings, first, start)


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of a host.

    Raises:
        SettingsError: the host has no address here, or the port is in use.
    """
    sockets: list[socket.socket] = []
    refusal: OSError | None = None
    try:
        for family, *_, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            try:
                sockets.append(_listening(family, address))
            except OSError as error:
                refusal = error
                if error.errno not in ABSENT:
                    raise
        if not sockets and refusal is not None:
            raise refusal
    except OSError as error:
        for each in sockets:
            each.close()
        raise SettingsError(_told(host, port, error)) from None
    return sockets


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a server before don't count
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _told(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use: end the process that listens there, or choose another port with --port"
        )
    reason = error.strerror or str(error)
    return f"the server can't listen on {host}, port {port}: {reason}; choose others with --host and --port"
