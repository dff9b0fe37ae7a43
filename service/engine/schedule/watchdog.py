"""Notices a worker that is stopped or hangs: an idle one has to answer, and a batch may not take for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from service.engine.schedule.clock import Clock
from service.engine.schedule.items import ItemBatch
from service.engine.worker.base import WorkerGoneError

EVERY_S = 1.0
HANGS_S = 10.0  # an idle worker answers within milliseconds
SUSPECT = 0.3  # of a limit, after which the worker does not count as ready


class Watchdog:
    """Watches one worker.

    Silence is counted in looks of at most twice `EVERY_S`, so that a pause of the whole machine is no silence.

    Args:
        ping: returns when the worker takes jobs.
        running: the batch that the worker has; None while it has none.
        limit_s: how long a batch may take.
        clock: of pauses.
        changed: is called with every look while the worker is suspect, and when it is no more.
    """

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        running: Callable[[], ItemBatch | None],
        limit_s: Callable[[ItemBatch], float],
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._ping, self._running, self._limit_s = ping, running, limit_s
        self._clock, self._changed = clock, changed
        self._asking: asyncio.Task[None] | None = None
        self._awaited: object = None
        self._silent_s = 0.0
        self._may_take_s = HANGS_S

    @property
    def suspects(self) -> bool:
        """Whether the worker has been silent for longer than it should be."""
        return self._silent_s > SUSPECT * self._may_take_s

    @property
    def left_s(self) -> float:
        """Seconds until the worker is given up, if it stays silent."""
        return max(0.0, self._may_take_s - self._silent_s)

    async def watch(self) -> None:
        """Return when the worker hangs."""
        try:
            while self.left_s:
                if self._running() is None and self._asking is None:
                    self._asking = asyncio.create_task(self._ask())
                before = self._clock.now()
                await self._clock.sleep(EVERY_S)
                self._look(min(self._clock.now() - before, 2 * EVERY_S))
        finally:
            if self._asking is not None:
                self._asking.cancel()

    async def _ask(self) -> None:
        with suppress(WorkerGoneError):  # the supervisor knows
            await self._ping()
        self._asking = None

    def _look(self, passed_s: float) -> None:
        suspected = self.suspects
        batch = self._running()
        awaited: Any = batch or self._asking
        self._silent_s = self._silent_s + passed_s if awaited is not None and awaited is self._awaited else 0.0
        self._awaited, self._may_take_s = awaited, HANGS_S if batch is None else self._limit_s(batch)
        if suspected or self.suspects:
            self._changed()
