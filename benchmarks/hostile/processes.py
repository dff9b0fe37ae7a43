"""Processes that are killed or stopped in every state, and what was acknowledged before."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from benchmarks.hostile.bodies import JSON
from benchmarks.hostile.phases import Bounds, Needs, Outcome, SkippedError, phase
from benchmarks.hostile.target import Target, answers_of, unseen
from benchmarks.hostile.wire import Answer, ask, head
from benchmarks.hostile.writes import Acknowledged, lost, write_for
from benchmarks.server import below, resident_of

DRAIN_S = 8.0
DRAINED_S = DRAIN_S + 2.0  # to stop the workers
RETURNS_S = 60.0
LOADED_S = 200.0  # until a new server serves, on a busy machine
FRESH = Needs(fresh=True)
DRAINING = Needs({"VLM_OOD_DRAIN_S": f"{DRAIN_S:g}"}, fresh=True)
WORKERLESS = Bounds(served=0.2, recovers_s=10)  # a worker needs some seconds to load; until then 503, at once
RESTARTED = Bounds(livez_s=20, served=0.1, victims_p99_s=15, recovers_s=10)  # while there is no process, none answers


@phase("processes.worker_killed", WORKERLESS, FRESH, 120)
async def worker_killed(target: Target) -> Outcome:
    """SIGKILL of the device's worker while it has little to do."""
    return await hit(target, signal.SIGKILL, target.workers())


@phase("processes.worker_killed_busy", WORKERLESS, FRESH, 120)
async def worker_killed_busy(target: Target) -> Outcome:
    """SIGKILL of the device's worker under load, three times."""
    async with load(target) as answers:
        hits = [await hit(target, signal.SIGKILL, target.workers()) for _ in range(3)]
    return together(answers_of(answers), hits)


@phase("processes.worker_stopped", WORKERLESS, FRESH, 120)
async def worker_stopped(target: Target) -> Outcome:
    """SIGSTOP of the device's worker while it has little to do."""
    return await hit(target, signal.SIGSTOP, target.workers())


@phase("processes.worker_stopped_busy", WORKERLESS, FRESH, 120)
async def worker_stopped_busy(target: Target) -> Outcome:
    """SIGSTOP of the device's worker under load."""
    async with load(target) as answers:
        stopped = await hit(target, signal.SIGSTOP, target.workers())
    return together(answers_of(answers), [stopped])


@phase("processes.decoders_killed", Bounds(served=0.5), FRESH, 120)
async def decoders_killed(target: Target) -> Outcome:
    """SIGKILL of all decoding processes, five times, two seconds apart."""
    hits = []
    for _ in range(5):
        hits.append(await hit(target, signal.SIGKILL, decoders_of(target)))
        await asyncio.sleep(2)
    return together(Counter(), hits)


@phase("processes.decoders_stopped", WORKERLESS, FRESH, 120)
async def decoders_stopped(target: Target) -> Outcome:
    """SIGSTOP of all decoding processes."""
    return await hit(target, signal.SIGSTOP, decoders_of(target))


@phase("processes.killed_loading", RESTARTED, FRESH, 180)
async def killed_loading(target: Target) -> Outcome:
    """SIGKILL of the device's worker as soon as it exists, after a restart."""
    return await killed_when(target, lambda size: size > 0)


@phase("processes.killed_warming", RESTARTED, FRESH, 180)
async def killed_warming(target: Target) -> Outcome:
    """SIGKILL of the device's worker when it has loaded most of its networks, after a restart."""
    loaded = max(map(resident_of, target.workers()))
    return await killed_when(target, lambda size: size > 0.7 * loaded)


@phase("processes.drain_load", RESTARTED, DRAINING, 120)
async def drain_load(target: Target) -> Outcome:
    """SIGTERM while 16 requests of 16 images are answered: within the limit of the drain, and none is cut off."""
    asked = [asyncio.create_task(target.send([unseen() for _ in range(16)])) for _ in range(16)]
    await asyncio.sleep(0.5)
    took_s = await ended(target)
    return drained(took_s, await asyncio.gather(*asked))


@phase("processes.drain_uploads", RESTARTED, DRAINING, 120)
async def drain_uploads(target: Target) -> Outcome:
    """SIGTERM while 20 bodies arrive slowly: within the limit of the drain, and each is told why."""
    content = head("POST", "/v1/score", target.tokens["attacker"], JSON, "Content-Length: 1000", "Connection: close")
    asked = [asyncio.create_task(ask(target.address(), content + b"{", 2 * DRAINED_S)) for _ in range(20)]
    await asyncio.sleep(1)
    took_s = await ended(target)
    return drained(took_s, await asyncio.gather(*asked))


@phase("processes.server_killed", RESTARTED, FRESH, 900)
async def server_killed(target: Target) -> Outcome:
    """SIGKILL of the server in the middle of writes, three times: every acknowledged write is there afterwards."""
    written, missing, orphans = Acknowledged(), 0, 0
    for _ in range(3):
        writing = asyncio.create_task(write_for(target, written, 10.0))
        await asyncio.sleep(random.uniform(2.0, 4.0))
        children = below(target.server.process.pid)
        target.server.process.kill()
        target.server.process.wait()
        await writing
        orphans += await still_there(children)
        target.server.start_again()
        if await target.seconds_until_served(LOADED_S) > LOADED_S:
            return Outcome(written.answers, (f"it served nobody within {LOADED_S:g} s after a restart",))
        missing += await lost(target, written)
    broken = [f"{missing} acknowledged writes are lost"] if missing else []
    broken += [f"{orphans} processes outlived their server by ten seconds"] if orphans else []
    return Outcome(written.answers, tuple(broken), (f"{written.count} writes acknowledged, {missing} lost",))


async def hit(target: Target, number: signal.Signals, pids: Sequence[int]) -> Outcome:
    """Send a signal to processes, and wait until a victim is served again."""
    target.signal(number, pids)
    took_s = await target.seconds_until_served(RETURNS_S)
    target.signal(signal.SIGCONT, [pid for pid in pids if resident_of(pid)])
    broken = (f"no victim was served for {RETURNS_S:g} s after {number.name}",) if took_s > RETURNS_S else ()
    return Outcome(Counter(), broken, (f"served after {took_s:.1f} s",))


async def killed_when(target: Target, large_enough: Callable[[float], bool]) -> Outcome:
    """Restart the server, and kill its worker once, when it is as large as this."""
    target.server.kill()
    target.server.start_again()
    while not (workers := [pid for pid in target.workers() if large_enough(resident_of(pid))]):
        await asyncio.sleep(0.05)
    return await hit(target, signal.SIGKILL, workers)


async def ended(target: Target) -> float:
    """Seconds from SIGTERM until the server has ended; then it is started again."""
    started = time.perf_counter()
    target.server.process.terminate()
    while target.server.process.poll() is None and time.perf_counter() - started < RETURNS_S:
        await asyncio.sleep(0.05)
    took_s = time.perf_counter() - started
    target.server.kill()
    target.server.start_again()
    return took_s


def drained(took_s: float, answers: Sequence[Answer]) -> Outcome:
    """Whether the server ended in time and answered everybody."""
    broken = [f"it took {took_s:.1f} s to end, more than {DRAINED_S:g}"] if took_s > DRAINED_S else []
    cut = [answer.status for answer in answers].count("cut")
    broken += [f"{cut} of {len(answers)} requests were cut off without an answer"] if cut else []
    return Outcome(answers_of(answers), tuple(broken), (f"ended after {took_s:.1f} s",))


@asynccontextmanager
async def load(target: Target) -> AsyncIterator[list[Answer]]:
    """Eight clients that send eight images each, again and again; their answers."""
    answers: list[Answer] = []

    async def client() -> None:
        while True:
            answers.append(await target.send([unseen() for _ in range(8)]))

    clients = [asyncio.create_task(client()) for _ in range(8)]
    await asyncio.sleep(2)
    try:
        yield answers
    finally:
        for each in clients:
            each.cancel()


def together(answers: "Counter[str]", hits: Sequence[Outcome]) -> Outcome:
    """One outcome of several."""
    return Outcome(
        answers,
        tuple(text for each in hits for text in each.broken),
        tuple(text for each in hits for text in each.notes),
    )


def decoders_of(target: Target) -> list[int]:
    """The processes that decode.

    Raises:
        SkippedError: there are none.
    """
    found = target.decoders()
    if not found:
        raise SkippedError("this version has no processes that decode")
    return found


async def still_there(pids: Sequence[int]) -> int:
    """How many of the processes are left after ten seconds."""
    for _ in range(100):
        if not any(map(resident_of, pids)):
            return 0
        await asyncio.sleep(0.1)
    return sum(resident_of(pid) > 0 for pid in pids)
