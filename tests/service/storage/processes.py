"""What other processes do to a database in the tests; each is forked from one that has imported the program."""

import os
import signal
from collections.abc import Callable
from functools import cache
from itertools import count
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from threading import Barrier
from typing import Any, Final

from sqlalchemy import Engine, event

from service.storage.database import Database

JOIN_S: Final = 120


def run(target: Callable[..., None], *arguments: object, times: int = 1) -> list[int | None]:
    """The exit codes of processes that run this at once; the target gets a barrier as its last argument."""
    context = _forking()
    barrier = context.Barrier(times)
    processes = [context.Process(target=target, args=(*arguments, barrier)) for _ in range(times)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(JOIN_S)
    return [process.exitcode for process in processes]


@cache
def _forking() -> ForkServerContext:
    """Forks a process that has imported all that the targets need: to import it takes more time than they do."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # one that the engine's tests started has imported less
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.service.storage.test_kills", "psycopg"])
    return context


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
