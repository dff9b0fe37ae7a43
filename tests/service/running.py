"""The application behind a real socket."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from service.run import server_of
from service.settings import Settings


@contextmanager
def running(app: FastAPI, settings: Settings) -> Iterator[str]:
    """Serve in a thread on a free port; gives the base URL."""
    server = server_of(app, settings.model_copy(update={"port": 0}))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()
