"""Runs the server: uvicorn with time-outs; it listens on other addresses than loopback only when there are keys."""

import sys

import structlog
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.errors import BusyError
from service.memory import give_memory_back
from service.observability import logs
from service.security.connections import GuardedProtocol
from service.security.keys import KeyStore
from service.settings import Settings, SettingsError
from service.storage.database import Database
from vlm_ood.errors import StorageError


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun.

    Raises:
        SettingsError: other machines can connect and there are no keys.
        SystemExit: with status 3, after one line on standard error, where the server can't start: its data can't be
            written, say.
    """
    give_memory_back()
    logs.configure(settings.log_level)
    app = _app(settings)
    structlog.get_logger("vlm_ood").info(
        "serving", host=settings.host, port=settings.port, encoders=settings.encoders, data=str(settings.data)
    )
    server = server_of(app, settings)
    server.run()
    if not server.started:
        raise SystemExit(3)


def _app(settings: Settings) -> FastAPI:
    try:
        check_reach(settings)
        return create_app(settings)
    except (StorageError, BusyError) as error:
        sys.stderr.write(f"error: the server can't start: {error}\n")
        raise SystemExit(3) from None


def server_of(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """A uvicorn server with time-outs for slow clients."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=int(settings.drain_s),
            http=GuardedProtocol,
            ws="none",
            lifespan="on",
        )
    )


def check_reach(settings: Settings) -> None:
    """Refuse to listen on an address that other machines can reach while there are no keys.

    Raises:
        SettingsError: there are no valid keys and `insecure` isn't set.
    """
    if settings.loopback or settings.insecure:
        return
    database = Database(settings.sql_url)
    try:
        keys = KeyStore(database)
        if not any(key.usable(keys.now()) for key in keys.all()):
            raise SettingsError(
                f"{settings.host} can be reached from other machines and there are no valid keys: create one with "
                "`vlm-ood keys create`, listen on 127.0.0.1, or give --insecure"
            )
    finally:
        database.close()
