"""Connections that do nothing, or too little, or leave."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from benchmarks.hostile.bodies import LASTS_S
from benchmarks.hostile.phases import Bounds, Needs, Outcome, phase
from benchmarks.hostile.target import Target, unseen
from benchmarks.hostile.wire import Address, form, head, request

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CROWDED = Bounds(served=0.0, victims_p99_s=15.0, recovers_s=15.0)  # no limit per address can help; health must stay


@phase("connections.idle_256")
async def idle(target: Target) -> Outcome:
    """256 connections of one address that send nothing."""
    return await held(target, [target.address()] * 256, waiting)


@phase("connections.idle_2000")
async def idle_thousands(target: Target) -> Outcome:
    """2000 connections of one address that send nothing."""
    return await held(target, [target.address()] * 2000, waiting)


@phase("connections.idle_spread", CROWDED)
async def idle_spread(target: Target) -> Outcome:
    """2000 connections of 250 addresses that send nothing; `/livez` must go on answering."""
    spread = [target.address(source=f"127.0.1.{number % 250 + 1}") for number in range(2000)]
    return await held(target, spread, waiting)


@phase("connections.slow_heads")
async def slow_heads(target: Target) -> Outcome:
    """Three hundred connections that send the head of a request, one byte a second."""

    async def slowly(connection: Connection) -> None:
        for byte in head("GET", "/v1/methods"):
            if connection[1].transport.is_closing():
                return
            connection[1].write(bytes([byte]))
            await asyncio.sleep(1)

    return await held(target, [target.address()] * 300, slowly)


@phase("connections.slow_readers")
async def slow_readers(target: Target) -> Outcome:
    """Three hundred connections that ask for /openapi.json a hundred times each and read nothing."""

    async def unread(connection: Connection) -> None:
        connection[1].transport.pause_reading()  # type: ignore[attr-defined]
        connection[1].write(head("GET", "/openapi.json") * 100)
        await asyncio.sleep(LASTS_S)

    return await held(target, [target.address()] * 300, unread)


@phase("connections.half_closed")
async def half_closed(target: Target) -> Outcome:
    """Three hundred connections that end their side, half of them within a request, and stay."""
    content = request("POST", "/v1/score", target.tokens["attacker"], *form([unseen()]))

    async def half(connection: Connection) -> None:
        connection[1].write(content[: len(content) // 2])
        connection[1].write_eof()
        await asyncio.sleep(LASTS_S)

    return await held(target, [target.address()] * 300, half)


@phase("connections.leaving")
async def leaving(target: Target) -> Outcome:
    """A thousand connections that leave: half of them within a body, half after it and before the answer."""
    content = request("POST", "/v1/score", target.tokens["attacker"], *form([unseen()]))
    left: Counter[str] = Counter()
    for number in range(1000):
        with suppress(OSError):
            _, writer = await target.address().open()
            writer.write(content[: len(content) // (1 + number % 2)])
            await writer.drain()
            await asyncio.sleep(0.002)
            writer.transport.abort()
            left["left"] += 1
    return Outcome(left)


@phase("connections.few_files", Bounds(victims_p99_s=10), Needs(files=64, fresh=True))
async def few_files(target: Target) -> Outcome:
    """A server that may open 64 files, and 200 connections that send nothing."""
    return await held(target, [target.address()] * 200, waiting)


async def waiting(connection: Connection) -> None:
    """Do nothing until the phase ends."""
    await asyncio.sleep(LASTS_S)


async def held(
    target: Target, addresses: Iterable[Address], behave: Callable[[Connection], Awaitable[None]]
) -> Outcome:
    """Connect from each address and behave; how many connections the server closed and how many it left open."""

    async def one(address: Address) -> str:
        try:
            connection = await asyncio.wait_for(address.open(), LASTS_S)
        except (OSError, TimeoutError):
            return "not connected"
        try:
            with suppress(TimeoutError, OSError):
                await asyncio.wait_for(behave(connection), LASTS_S)
            return "closed" if await was_closed(connection) else "left open"
        finally:
            connection[1].transport.abort()

    return Outcome(Counter(await asyncio.gather(*map(one, addresses))))


async def was_closed(connection: Connection) -> bool:
    """Whether the server has closed it; what it sent before is read first."""
    reader, writer = connection
    if writer.transport.is_closing():
        return True
    with suppress(RuntimeError):
        writer.transport.resume_reading()  # type: ignore[attr-defined]
    try:
        async with asyncio.timeout(0.5):
            while await reader.read(2**20):
                pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
