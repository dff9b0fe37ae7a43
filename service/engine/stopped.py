"""Kills processes that are stopped, as SIGSTOP leaves them: their death is noticed at once, and they are replaced."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from service.engine.schedule.clock import Clock

EVERY_S: Final = 0.5
LOOKS: Final = 2  # a debugger that attaches stops a process for a moment

log = logging.getLogger(__name__)


class Killable(Protocol):
    """A process of the engine."""

    @property
    def pid(self) -> int | None:
        """Its id; None while it isn't running."""

    def kill(self) -> None:
        """End it now."""


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process; False where the system has no /proc that tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] == b"T"  # man 5 proc; "t" is stopped by a debugger


class StoppedWatch:
    """Looks at the state of processes. One that hangs in another way is not its concern.

    Args:
        processes: those that run now.
        clock: of the pauses between looks.
        stopped: whether the process of this id is stopped.
    """

    def __init__(
        self,
        processes: Callable[[], Iterable[Killable]],
        clock: Clock,
        stopped: Callable[[int], bool] = is_stopped,
    ) -> None:
        self._processes, self._clock = processes, clock
        self._stopped = stopped
        self._looks: dict[int, int] = {}

    async def watch(self) -> None:
        """Kill what is stopped at several looks in a row, until cancelled."""
        while True:
            self._look()
            await self._clock.sleep(EVERY_S)

    def _look(self) -> None:
        before, self._looks = self._looks, {}
        for process in self._processes():
            if (pid := process.pid) is None or not self._stopped(pid):
                continue
            self._looks[pid] = before.get(pid, 0) + 1
            if self._looks[pid] >= LOOKS:
                log.error("process %d is stopped: it is killed", pid)
                process.kill()
