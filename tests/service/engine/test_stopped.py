"""Processes that are stopped, as SIGSTOP leaves them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.engine.stopped import EVERY_S, LOOKS, StoppedWatch, is_stopped
from tests.service.engine.stand_ins import FakeClock, settle


@dataclass
class Process:
    """One that remembers whether it was killed."""

    pid: int | None
    killed: int = field(default=0)

    def kill(self) -> None:
        self.killed += 1


@dataclass
class Site:
    """A watch over processes, of which some are stopped."""

    processes: list[Process]
    stopped: set[int] = field(default_factory=set)
    clock: FakeClock = field(default_factory=FakeClock)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watch = StoppedWatch(lambda: self.processes, self.clock, self.stopped.__contains__)
        watching = asyncio.create_task(watch.watch())
        await settle()
        yield
        watching.cancel()
        await asyncio.wait([watching])

    def killed(self) -> list[int]:
        return [process.killed for process in self.processes]


async def test_a_process_that_stays_stopped_is_killed_and_no_other_one() -> None:
    site = Site([Process(1), Process(2), Process(None)])
    async with site.watched():
        site.stopped.add(2)
        await site.clock.advance(LOOKS * EVERY_S)
        assert site.killed() == [0, 1, 0]


async def test_a_process_that_goes_on_at_once_is_kept() -> None:
    site = Site([Process(1)])
    async with site.watched():
        for _ in range(3):
            site.stopped.add(1)
            await site.clock.advance((LOOKS - 1) * EVERY_S)
            site.stopped.clear()
            await site.clock.advance(EVERY_S)
        assert site.killed() == [0]


async def test_a_process_that_comes_later_is_watched_too() -> None:
    site = Site([])
    async with site.watched():
        await site.clock.advance(10)
        site.processes.append(Process(7))
        site.stopped.add(7)
        await site.clock.advance(LOOKS * EVERY_S)
        assert site.killed() == [1]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_the_state_of_a_process_is_read_from_the_system() -> None:
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b') T (x')"  # PR_SET_NAME: to mislead who parses it
    with subprocess.Popen([sys.executable, "-c", f"{name}; print(flush=True); input()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert not is_stopped(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert is_stopped(child.pid)
        child.kill()
    assert not is_stopped(child.pid)
