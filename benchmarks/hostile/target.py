"""The server under attack, as an attacker, a client and its operator see it."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.hostile.wire import HANG_S, Address, Answer, ask, form, request
from benchmarks.server import Server, below, own_address, resident_of
from tests.hostile_images import Picture, photograph
from tests.service.hostile import CLASSES

ATTACKER, VICTIMS = "attacker", ("first", "second")
SOURCES = {VICTIMS[0]: "127.0.0.11", VICTIMS[1]: "127.0.0.12"}
UNIQUE = count()


@dataclass(frozen=True)
class Target:
    """A running server.

    Args:
        server: its process.
        tokens: a key per tenant.
        scale: how long phases last, as a multiple.
        requests: how many requests the mixed phase sends.
        share: of harmful requests among them.
    """

    server: Server
    tokens: Mapping[str, str]
    requests: int = 10_000
    share: float = 0.05

    def address(self, tenant: str = ATTACKER, source: str | None = None) -> Address:
        """Where the tenant connects, from an address of its own; the attacker's is not of loopback if possible."""
        if tenant == ATTACKER and source is None:
            return Address(self.server.port, own_address(), own_address())
        return Address(self.server.port, source or SOURCES.get(tenant, "127.0.0.1"))

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        kind: str = "application/json",
        tenant: str = ATTACKER,
        timeout_s: float = HANG_S,
    ) -> Answer:
        """One request with the tenant's key."""
        content = request(method, path, self.tokens.get(tenant, ""), body, kind)
        return await ask(self.address(tenant), content, timeout_s)

    async def send(
        self,
        pictures: Sequence[Picture],
        path: str = "/v1/score",
        method: str = "POST",
        tenant: str = ATTACKER,
        timeout_s: float = HANG_S,
        **fields: str,
    ) -> Answer:
        """One request with images as a form; to a stored detector without class names."""
        classes = CLASSES if path == "/v1/score" else ()
        return await self.ask(method, path, *form(pictures, classes, **fields), tenant=tenant, timeout_s=timeout_s)

    async def served(self, tenant: str = VICTIMS[0]) -> bool:
        """Whether a valid request of the tenant is answered now."""
        answer = await self.send([unseen()], tenant=tenant)
        return answer.ok and not answer.error()

    async def seconds_until_served(self, at_most_s: float) -> float:
        """How long it takes until a valid request is answered; infinite if it takes longer."""
        started = time.perf_counter()
        while time.perf_counter() - started < at_most_s:
            if await self.served():
                return time.perf_counter() - started
            await asyncio.sleep(0.2)
        return float("inf")

    def workers(self) -> list[int]:
        """The process with the networks, in a list: the largest that forks no others; none while there is none."""
        server = self.server.process.pid
        children = [pid for pid in below(server) if not forks_others(pid, server)]
        return [max(children, key=resident_of)] if children else []

    def decoders(self) -> list[int]:
        """All other processes below the server that hold Python."""
        return [pid for pid in below(self.server.process.pid) if pid not in self.workers() and resident_of(pid) > 20]

    def signal(self, number: signal.Signals, pids: Sequence[int]) -> None:
        """Send a signal to processes below the server."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def forks_others(pid: int, server: int) -> bool:
    """Whether it is a fork server of the server; those that it has forked have its command line, not its parent."""
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return parent == server and "multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def unseen(number: int | None = None) -> Picture:
    """A small photograph that no cache holds."""
    marked = os.getpid() * 10**6 + next(UNIQUE) if number is None else number
    return f"{marked}.jpg", photograph(Random(marked), size=(320, 240))


def answers_of(answers: Sequence[Answer]) -> "Counter[str]":
    """How often each status was given, with the code of an image's error."""
    return Counter(f"{answer.status} {error}" if (error := answer.error()) else answer.status for answer in answers)


def mean(values: Sequence[Any]) -> float:
    """The arithmetic mean; 0 of nothing."""
    return float(sum(values) / len(values)) if values else 0.0
