"""Runs the server: uvicorn with time-outs; it listens on other addresses than loopback only when there are keys."""

import multiprocessing
import os
import sys
from functools import partial
from typing import Final, NoReturn, cast

import structlog
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.descriptors import descriptors_for
from service.errors import BusyError
from service.first_answers import FirstAnswers
from service.memory import keep_what_is_loaded
from service.observability import logs
from service.security.admittance import RESERVE, Admittance, AdmittanceLimits
from service.security.connections import GuardedProtocol
from service.security.intake import Turns
from service.security.keys import KeyStore
from service.security.time_limits import TimeLimits
from service.server import Server
from service.services import Services
from service.settings import Settings, SettingsError
from service.start_time import StartTime
from service.storage.database import Database
from vlm_ood.errors import StorageError, VlmOodError

START_FAILED: Final = 3  # exit code
STOP_OVERDUE: Final = 4  # exit code
CUT_S: Final = 0.5  # for the answers to requests that a stop ends

log = structlog.get_logger("vlm_ood")


def run(settings: Settings, first: FirstAnswers | None = None, start: StartTime | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun. `/livez` answers while the encoders are loaded.

    Args:
        settings: of the server.
        first: answers meanwhile, and hands its sockets over; by default the server makes its own.
        start: of the process.

    Raises:
        SettingsError: other machines can connect and there are no keys.
        SystemExit: with `START_FAILED`, after one line on standard error, where the server can't start: its data can't
            be written, say, or its encoder can't be loaded.
    """
    logs.configure(settings.log_level)
    app = _app(settings)
    lifecycle = services_of(app).lifecycle
    lifecycle.start_time = start or lifecycle.start_time
    lifecycle.settle = keep_what_is_loaded
    log.info("serving", host=settings.host, port=settings.port, encoders=settings.encoders, data=str(settings.data))
    server = server_of(app, settings, end_process=True)
    server.run(first.hand_over() if first is not None else None)
    failure = lifecycle.failure
    if failure is not None and not isinstance(failure, VlmOodError):
        log.error("the server can't start", exc_info=failure)
    if failure is not None:
        _cannot_start(failure)
    if not server.started:
        raise SystemExit(START_FAILED)


def _app(settings: Settings) -> FastAPI:
    try:
        check_reach(settings)
        return create_app(settings, start_beside=True)
    except (StorageError, BusyError) as error:
        _cannot_start(error)


def _cannot_start(error: Exception) -> NoReturn:
    sys.stderr.write(f"error: the server can't start: {error}\n")
    raise SystemExit(START_FAILED) from None


def server_of(
    app: FastAPI, settings: Settings, times: TimeLimits | None = None, *, end_process: bool = False
) -> Server:
    """A server with limits on connections and on the time of a stop.

    Args:
        app: made by `create_app`.
        settings: of the server.
        times: limits of each state of a connection; by default from the settings.
        end_process: when the stop takes too long.
    """
    services = services_of(app)
    times = times or TimeLimits(keep_alive_s=settings.keep_alive_s, body_s=settings.body_timeout_s + CUT_S)
    admittance = Admittance(_limits(settings), services.metrics)
    protocol = partial(GuardedProtocol, admittance=admittance, times=times, turns=Turns())
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=cast(int, settings.drain_s + CUT_S),  # uvicorn hands it to asyncio.wait_for
        http=cast(type[GuardedProtocol], protocol),  # uvicorn calls it
        ws="none",
        lifespan="on",
    )
    return Server(config, services.lifecycle, settings.drain_s, _end_process if end_process else None)


def services_of(app: FastAPI) -> Services:
    """The services of an application of `create_app`."""
    return cast(Services, app.state.services)


def _limits(settings: Settings) -> AdmittanceLimits:
    """Fewer connections than the settings allow where the process may not open as many files."""
    room = descriptors_for(settings.max_connections + RESERVE)
    reserve = min(RESERVE, max(1, room // 4)) if room < settings.max_connections + RESERVE else RESERVE
    ordinary = min(settings.max_connections, room - reserve)
    if ordinary < settings.max_connections:
        log.warning("fewer connections than max_connections: raise the limit of open files", connections=ordinary)
    return AdmittanceLimits(ordinary, settings.max_connections_per_address, room - ordinary, settings.proxies)


def _end_process() -> None:
    """End a process whose stop takes too long, and its children."""
    log.error("the stop took too long: the process ends")
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(STOP_OVERDUE)


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
