"""The application behind a real socket."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from service.run import server_of
from service.security.time_limits import TimeLimits
from service.server import Server
from service.settings import Settings

LONG = TimeLimits(*[60.0] * 6)  # no time limit of a connection is reached within a test


@contextmanager
def running(app: FastAPI, settings: Settings, times: TimeLimits | None = None) -> Iterator[str]:
    """Serve in a thread on a free port; gives the base URL."""
    with running_server(app, settings, times) as (url, _):
        yield url


@contextmanager
def running_server(app: FastAPI, settings: Settings, times: TimeLimits | None = None) -> Iterator[tuple[str, Server]]:
    """The same; gives the base URL and the server."""
    server = server_of(app, settings.model_copy(update={"port": 0}), times)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()
