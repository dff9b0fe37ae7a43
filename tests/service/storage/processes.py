"""What other processes do to a database in the tests; each is forked from one that has imported the program."""

import os
import signal
from collections.abc import Callable
from itertools import count
from multiprocessing import get_context
from threading import Barrier
from typing import Any, Final

from sqlalchemy import Engine, event

from service.storage.database import Database

JOIN_S: Final = 120


def run(target: Callable[..., None], *arguments: object, times: int = 1) -> list[int | None]:
    """The exit codes of processes that run this at once; the target gets a barrier as its last argument."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["service.calibration.store", "service.security.keys", "psycopg"])
    barrier = context.Barrier(times)
    processes = [context.Process(target=target, args=(*arguments, barrier)) for _ in range(times)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(JOIN_S)
    return [process.exitcode for process in processes]


def open_it(url: str, barrier: Barrier) -> None:
    """Open the database when every process is ready to."""
    barrier.wait()
    Database(url).close()


def open_it_and_die(url: str, statement: int, _: Barrier) -> None:
    """Open the database, and be killed before this statement of the upgrade, counted from 1."""
    numbers = count(1)

    def die(*_: Any) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", die)
    Database(url).close()
