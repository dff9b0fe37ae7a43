"""Watches a server during an attack, from a process of its own: `/livez`, memory, and what clients get.

Two tenants send one valid image each every half second. Their times are those of the server and not of the attacker,
which is busy with its attack.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.hostile.target import SOURCES, VICTIMS, unseen
from benchmarks.hostile.wire import HANG_S, Address, ask, form, request
from benchmarks.server import below, resident_of

BEAT_S = 0.1
VICTIM_S = 0.5
SAMPLE_S = 0.1


@dataclass
class Observed:
    """What was seen.

    Args:
        beats: seconds until `/livez` answered 200, each.
        victims: (answer, seconds) of each valid request.
        peaks: MiB of "server", "worker" (the largest process below it), "others" and "all" at their largest.
    """

    beats: list[float] = field(default_factory=list)
    victims: list[tuple[str, float]] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)


class Observer:
    """Observes from `start` until `stop`, in another process."""

    def __init__(self, port: int, pid: int, tokens: Mapping[str, str]) -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=observe, args=(theirs, port, pid, dict(tokens)), daemon=True)

    async def start(self) -> None:
        """Return when the first beat was answered."""
        self._process.start()
        await asyncio.to_thread(self._ours.recv)

    def follow(self, pid: int) -> None:
        """The server is another process now."""
        self._ours.send(pid)

    def abandon(self) -> None:
        """End it; nobody wants to know what it saw."""
        self._process.kill()

    async def stop(self) -> Observed:
        """End it and return what it saw."""
        self._ours.send(None)
        observed: Observed = await asyncio.to_thread(self._ours.recv)
        await asyncio.to_thread(self._process.join)
        return observed


def observe(pipe: "Connection[Any, Any]", port: int, pid: int, tokens: dict[str, str]) -> None:
    """The process of an observer."""
    asyncio.run(_Watch(port, pid, tokens).run(pipe))


class _Watch:
    def __init__(self, port: int, pid: int, tokens: dict[str, str]) -> None:
        self._port, self._pid, self._tokens = port, pid, tokens
        self._ended = asyncio.Event()
        self._seen = Observed()

    async def run(self, pipe: "Connection[Any, Any]") -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(lambda: pipe.send("started")))
            group.create_task(self._every(SAMPLE_S, self._sample))
            for tenant in VICTIMS:
                group.create_task(self._tenant(tenant))
            while (told := await asyncio.to_thread(pipe.recv)) is not None:
                self._pid = told
            self._ended.set()
        pipe.send(self._seen)

    async def _beat(self, started: Callable[[], None]) -> None:
        """One after the other; one that isn't answered 200 is repeated, and its time goes on."""
        began = time.perf_counter()
        while not self._ended.is_set():
            answer = await ask(Address(self._port), request("GET", "/livez"), HANG_S)
            if answer.status == "200":
                self._seen.beats.append(time.perf_counter() - began)
                if len(self._seen.beats) == 1:
                    started()
                await self._sleep(BEAT_S)
                began = time.perf_counter()
            else:
                await self._sleep(BEAT_S / 2)
        self._seen.beats.append(time.perf_counter() - began)

    async def _tenant(self, tenant: str) -> None:
        async with asyncio.TaskGroup() as group:

            async def send() -> None:
                group.create_task(self._victim(tenant))

            await self._every(VICTIM_S, send)

    async def _victim(self, tenant: str) -> None:
        body, kind = form([unseen()])
        content = request("POST", "/v1/score", self._tokens.get(tenant, ""), body, kind)
        answer = await ask(Address(self._port, SOURCES[tenant]), content)
        error = answer.error()
        self._seen.victims.append((f"{answer.status} {error}".strip(), answer.seconds))

    async def _sample(self) -> None:
        server, children = resident_of(self._pid), [resident_of(pid) for pid in below(self._pid)]
        worker = max(children, default=0.0)
        now = {"server": server, "worker": worker, "others": sum(children) - worker, "all": server + sum(children)}
        for name, size in now.items():
            self._seen.peaks[name] = max(self._seen.peaks.get(name, 0.0), size)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while not self._ended.is_set():
            await act()
            await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)


def victims_of(observed: Observed) -> "Counter[str]":
    """How often each answer was given to a valid request."""
    return Counter(status for status, _ in observed.victims)
