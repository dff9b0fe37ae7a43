"""A decoder in a process of its own, which is killed when it is over a limit."""

import asyncio
import atexit
import multiprocessing
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Final, TypeVar

from service.engine.decoding.arena import Block
from service.engine.decoding.base import DecodeLimits, DecoderLostError, Picture
from service.engine.decoding.child import main
from service.engine.decoding.memory import PixelMemory
from service.engine.decoding.protocol import REPLY, Reply, Task, reply_length, request_head, unpacked
from service.engine.fork_server import ForkServer
from vlm_ood.errors import ImageError

START_S: Final = 60.0
GRACE_S: Final = 1.0  # for a picture whose caller has left: a new process costs more than the end of most pictures
FORK_SERVER: Final = ForkServer(forkserver._forkserver)  # that of the context
REMEDY: Final = "shrink the image, or save it as a baseline JPEG"

T = TypeVar("T")


class DecoderProcess:
    """A `Decoder` process, forked by a server that has imported what it needs.

    Args:
        memory: that it writes to.
        limits: per picture.
        executor: of one thread, since starting and joining are not safe on several at once.
    """

    def __init__(self, memory: PixelMemory, limits: DecodeLimits, executor: Executor) -> None:
        self._limits, self._executor = limits, executor
        self._loop = asyncio.get_running_loop()
        self._started = False
        self._channel, self._theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._process = context().Process(
            target=main, args=(memory, self._theirs, limits), name="vlm-ood-decoder", daemon=True
        )

    @property
    def pid(self) -> int | None:
        """The id of the process; None before `start`."""
        return self._process.pid

    async def start(self) -> None:
        try:
            await self._blocking(self._start)
        except EOFError as error:
            raise OSError("the fork server of the decoders ended") from error
        try:
            async with asyncio.timeout(START_S):
                await self._receive()
        except (OSError, ValueError, TimeoutError) as error:
            raise DecoderLostError("crash", ImageError("a decoder died before it was ready: see the log")) from error

    def kill(self) -> None:
        """End the process now; `decode` and `end` notice."""
        with suppress(ValueError):  # closed already
            self._process.kill()

    async def decode(self, picture: Picture, block: Block) -> None:
        asking = asyncio.create_task(self._ask(picture, block))
        share_s = (picture.until - self._loop.time()) / 2
        try:
            await _first(asking, picture.pixels, max(0.0, min(self._limits.timeout_s, share_s)))
            if picture.pixels.done():
                await asyncio.wait({asking}, timeout=GRACE_S)
            if not asking.done():
                raise self._over_time(share_s, abandoned=picture.pixels.done())
            reply = asking.result()
        except (OSError, ValueError) as error:
            raise await self._death() from error
        finally:
            asking.cancel()
        if reply.out_of_memory:
            raise DecoderLostError("memory", ImageError(reply.error))
        if reply.error is not None:
            raise ImageError(reply.error)

    async def end(self) -> None:
        ending = self._executor.submit(self._end)
        if self._started:  # else the fork server may be importing, for seconds
            await asyncio.wrap_future(ending)

    def _start(self) -> None:
        self._process.start()
        self._started = True
        atexit.register(self._process.kill)  # it ignores SIGTERM, with which multiprocessing would end it
        self._theirs.close()  # else the stream would not end with the process

    def _end(self) -> None:
        """After `_start`, which is not interrupted: they run on one thread."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
            atexit.unregister(self._process.kill)
            with suppress(ValueError):  # the start of another process has reaped this one, and not yet noted it
                self._process.close()
        self._theirs.close()
        self._channel.close()

    async def _ask(self, picture: Picture, block: Block) -> Reply:
        task = Task(picture.preprocessing, block.offset, block.shape)
        await self._loop.sock_sendall(self._channel, request_head(task, picture.content))
        await self._loop.sock_sendall(self._channel, picture.content)
        return await self._receive()

    async def _receive(self) -> Reply:
        head = await self._read(REPLY.size)
        return unpacked(await self._read(reply_length(head)))

    async def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = await self._loop.sock_recv(self._channel, length - len(data))
            if not part:
                raise ConnectionResetError("the decoder closed its socket")
            data += part
        return data

    def _over_time(self, share_s: float, *, abandoned: bool) -> DecoderLostError:
        seconds = self._limits.timeout_s
        over = f"{seconds:g} seconds" if seconds < share_s else "half of the time that its request had left"
        error = ImageError(f"took more than {over} to decode: {REMEDY}, or try again later")
        return DecoderLostError("abandoned" if abandoned else "time", error)

    async def _death(self) -> DecoderLostError:
        """Why the socket has ended."""
        await self._blocking(lambda: self._process.join(GRACE_S))
        code = self._process.exitcode
        if code == -signal.SIGXCPU:
            error = ImageError(f"took more than {self._limits.cpu_s:g} CPU seconds to decode: {REMEDY}")
            return DecoderLostError("cpu", error)
        return DecoderLostError("crash", ImageError(f"the decoder crashed on it (exit code {code}): save it anew"))

    async def _blocking(self, call: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._executor, call)


async def _first(one: asyncio.Future[Reply], other: asyncio.Future[Block], timeout_s: float) -> None:
    futures: set[asyncio.Future[Reply] | asyncio.Future[Block]] = {one, other}
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


def context() -> SpawnContext | ForkServerContext:
    """A fork server where there is one: its children are ready at once, and share what they import."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["service.engine.decoding.preload"])
    return forking
