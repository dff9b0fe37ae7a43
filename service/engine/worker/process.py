"""A worker in a process of its own, so that this process never touches a GPU."""

import asyncio
import atexit
import itertools
import logging
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import TypeVar

from service.engine.decoding.arena import Block
from service.engine.decoding.memory import PixelMemory
from service.engine.fork_server import ForkServer
from service.engine.worker.base import WorkerGoneError, WorkerPlan
from service.engine.worker.main import main
from service.engine.worker.protocol import (
    Answer,
    EncodedImages,
    EncodedText,
    EncodeImages,
    EncodeText,
    ErrorReply,
    HeadWork,
    Job,
    Load,
    Loaded,
    Message,
    Ping,
    Reply,
    Unload,
)
from vlm_ood.encoders.outputs import Outputs

START_S = 60.0  # for a fork server to import, which takes five seconds
STOP_S = 1.0  # an idle worker ends at once; killing one that does not loses nothing

NAME = "vlm-ood-worker"

T = TypeVar("T")

log = logging.getLogger(__name__)


class ProcessWorker:
    """A `Worker` process. Calls on the pipe block a thread each way; everything else is on the event loop.

    Args:
        plan: what it loads, and where.
        pixels: memory in which images lie.
        forks: makes the process; without one, or when it fails, the process is spawned and imports for itself.
    """

    def __init__(self, plan: WorkerPlan, pixels: PixelMemory, forks: ForkServer | None = None) -> None:
        self._plan, self._forks = plan, forks
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._numbers = itertools.count()
        self._exit_code: int | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._sender = ThreadPoolExecutor(1, "send")
        self._reader = threading.Thread(target=self._read, name="receive", daemon=True)
        self._pid: int | None = None
        self._ended = False
        context = get_context("spawn")
        self._connection, self._theirs = context.Pipe()
        self._arguments = plan, pixels, self._theirs
        self._process: BaseProcess = context.Process(target=main, args=self._arguments, name=NAME, daemon=True)

    @property
    def lost(self) -> asyncio.Future[str]:
        return self._lost

    @property
    def pid(self) -> int | None:
        """The id of the process; None before `start`."""
        return self._pid

    async def start(self) -> None:
        starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            await asyncio.wait({starting}, timeout=START_S)
            if not starting.done() and self._forks is not None:
                self._forks.kill()
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting  # the thread goes on all the same, and `stop` must find the process
            raise
        atexit.register(self.kill)  # it ignores SIGTERM, with which multiprocessing would end it
        self._theirs.close()  # else the pipe would not end with the process
        self._reader.start()

    async def load(self, name: str) -> Loaded:
        return await self._call(Loaded, Load(name, self._plan.max_batch))

    async def unload(self, name: str) -> None:
        await self._call(type(None), Unload(name))

    async def ping(self) -> None:
        await self._call(type(None), Ping())

    async def encode_images(
        self, name: str, images: Sequence[Block], outputs: Outputs, heads: HeadWork
    ) -> EncodedImages:
        offsets = tuple(block.offset for block in images)
        return await self._call(EncodedImages, EncodeImages(name, offsets, images[0].shape, outputs, heads))

    async def encode_text(self, name: str, prompts: tuple[str, ...]) -> EncodedText:
        return await self._call(EncodedText, EncodeText(name, prompts))

    def kill(self) -> None:
        if self._pid is not None and not self._ended:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # multiprocessing takes one for dead whose fork server is

    async def stop(self) -> None:
        if self._pid is None:
            self._theirs.close()
        elif self._waiting or not self._reader.is_alive():
            self.kill()  # nobody waits for what it does, such as loading an encoder
        elif not self._lost.done():
            try:
                await asyncio.wait_for(self._send(None), STOP_S)
            except TimeoutError:  # it reads nothing, and a long message before this one fills the pipe
                self.kill()
            except WorkerGoneError:
                pass
        await asyncio.to_thread(self._end)

    def _start(self) -> None:
        """Runs in a thread of its own."""
        self._process = self._started()
        self._pid = self._process.pid

    def _started(self) -> BaseProcess:
        if self._forks is not None:
            process = self._forks.process(main, self._arguments, NAME)
            try:
                process.start()
            except (EOFError, OSError) as error:
                log.warning("a worker could not be forked, and is spawned: %r", error)
            else:
                return process
        self._process.start()
        return self._process

    async def _call(self, kind: type[T], message: Message) -> T:
        if self._lost.done():
            raise WorkerGoneError(self._lost.result())
        job = Job(next(self._numbers), message)
        future = self._waiting[job.number] = self._loop.create_future()
        try:
            await self._send(job)
            answer = await future
        finally:
            self._waiting.pop(job.number, None)
        if isinstance(answer, ErrorReply):
            raise answer.error
        if not isinstance(answer, kind):
            raise TypeError(f"{type(message).__name__} was answered with {type(answer).__name__}")
        return answer

    async def _send(self, job: Job | None) -> None:
        try:
            await self._loop.run_in_executor(self._sender, self._connection.send, job)
        except OSError as error:
            raise WorkerGoneError(str(error)) from error

    def _read(self) -> None:
        """Receive replies until the pipe ends; runs in a thread of its own."""
        with suppress(RuntimeError):  # the event loop is closed
            try:
                while True:
                    self._loop.call_soon_threadsafe(self._settle, self._connection.recv())
            except (EOFError, OSError):
                self._ended = True
                self._process.join(STOP_S)  # a fork server tells the exit code after the pipe has ended
                self._exit_code = self._process.exitcode
                self._loop.call_soon_threadsafe(self._lose)

    def _settle(self, reply: Reply) -> None:
        future = self._waiting.get(reply.number)
        if future is not None and not future.done():
            future.set_result(reply.answer)

    def _lose(self) -> None:
        if not self._lost.done():
            self._lost.set_result(f"the worker process ended with exit code {self._exit_code}")
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerGoneError(self._lost.result()))

    def _end(self) -> None:
        """Wait for the process, kill it after `STOP_S`, and free its resources."""
        if self._pid is not None:
            if self._reader.is_alive():
                self._reader.join(STOP_S)
                self.kill()
                self._reader.join()
            self._process.join()
            self._ended = True
        self._sender.shutdown()
        self._connection.close()
        atexit.unregister(self.kill)
        with suppress(ValueError):  # the start of another process has reaped this one, and not yet noted it
            self._process.close()
