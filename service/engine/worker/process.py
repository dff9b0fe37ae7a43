"""A worker in a process of its own: spawned, so that this process never touches a GPU."""

import asyncio
import atexit
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from typing import TypeVar

from jaxtyping import UInt8
from torch import Tensor

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
    Reply,
    Unload,
)
from service.engine.worker.shared_pixels import SharedPixels
from vlm_ood.encoders.outputs import POOLED, Outputs

SLOTS = 2  # one batch runs, one waits behind it
STOP_S = 1.0  # an idle worker ends at once; killing one that does not loses nothing

T = TypeVar("T")


class ProcessWorker:
    """A `Worker` process. Calls on the pipe block a thread each way; everything else is on the event loop."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._slots: dict[int, SharedPixels] = {}
        self._free_slots = list(range(SLOTS))
        self._slot_bytes = 1
        self._sender = ThreadPoolExecutor(1, "send")
        self._reader = threading.Thread(target=self._read, name="receive", daemon=True)
        context = get_context("spawn")
        self._connection, self._theirs = context.Pipe()
        self._process = context.Process(target=main, args=(plan, self._theirs), name="vlm-ood-worker", daemon=True)

    @property
    def lost(self) -> asyncio.Future[str]:
        return self._lost

    @property
    def pid(self) -> int | None:
        """The id of the process; None before `start`."""
        return self._process.pid

    async def start(self) -> None:
        spawning = asyncio.ensure_future(asyncio.to_thread(self._process.start))
        try:
            await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await spawning  # the thread goes on all the same, and `stop` must find the process
            raise
        atexit.register(self.kill)  # it ignores SIGTERM, with which multiprocessing would end it
        self._theirs.close()  # else the pipe would not end with the process
        self._reader.start()

    async def load(self, name: str) -> Loaded:
        loaded = await self._call(Loaded, Load(name, self._plan.max_batch))
        height, width = loaded.info.input_size(POOLED)
        self._slot_bytes = max(self._slot_bytes, loaded.max_batch * 3 * height * width)
        return loaded

    async def unload(self, name: str) -> None:
        await self._call(type(None), Unload(name))

    async def encode_images(
        self, name: str, images: Sequence[UInt8[Tensor, "3 h w"]], outputs: Outputs, heads: HeadWork
    ) -> EncodedImages:
        slot = self._free_slots.pop()
        try:
            pixels = self._slot(slot, sum(image.nbytes for image in images))
            message = EncodeImages(name, slot, pixels.name, (len(images), *images[0].shape), outputs, heads)
            encoded = await self._call(EncodedImages, message, lambda: pixels.write(images))
            pixels.unlink()  # the worker has it
            return encoded
        finally:
            self._free_slots.append(slot)

    async def encode_text(self, name: str, prompts: tuple[str, ...]) -> EncodedText:
        return await self._call(EncodedText, EncodeText(name, prompts))

    def kill(self) -> None:
        with suppress(ValueError):  # closed already
            self._process.kill()

    async def stop(self) -> None:
        if self._process.pid is None:
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

    def _slot(self, number: int, nbytes: int) -> SharedPixels:
        """The memory of a slot, replaced when it is too small; new memory holds a full batch of the largest encoder."""
        pixels = self._slots.get(number)
        if pixels is None or pixels.nbytes < nbytes:
            if pixels is not None:
                pixels.unlink()
                pixels.close()
            pixels = self._slots[number] = SharedPixels.create(max(nbytes, self._slot_bytes))
        return pixels

    async def _call(self, kind: type[T], message: Message, before: Callable[[], None] | None = None) -> T:
        if self._lost.done():
            raise WorkerGoneError(self._lost.result())
        job = Job(next(self._numbers), message)
        future = self._waiting[job.number] = self._loop.create_future()
        try:
            await self._send(job, before)
            answer = await future
        finally:
            self._waiting.pop(job.number, None)
        if isinstance(answer, ErrorReply):
            raise answer.error
        if not isinstance(answer, kind):
            raise TypeError(f"{type(message).__name__} was answered with {type(answer).__name__}")
        return answer

    async def _send(self, job: Job | None, before: Callable[[], None] | None = None) -> None:
        def write() -> None:
            if before is not None:
                before()
            self._connection.send(job)

        try:
            await self._loop.run_in_executor(self._sender, write)
        except OSError as error:
            raise WorkerGoneError(str(error)) from error

    def _read(self) -> None:
        """Receive replies until the pipe ends; runs in a thread of its own."""
        with suppress(RuntimeError):  # the event loop is closed
            try:
                while True:
                    self._loop.call_soon_threadsafe(self._settle, self._connection.recv())
            except (EOFError, OSError):
                self._loop.call_soon_threadsafe(self._lose)

    def _settle(self, reply: Reply) -> None:
        future = self._waiting.get(reply.number)
        if future is not None and not future.done():
            future.set_result(reply.answer)

    def _lose(self) -> None:
        if not self._lost.done():
            self._lost.set_result(f"the worker process ended with exit code {self._process.exitcode}")
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerGoneError(self._lost.result()))

    def _end(self) -> None:
        """Wait for the process, kill it after `STOP_S`, and free its resources."""
        if self._process.pid is not None:
            self._process.join(STOP_S)
            self.kill()
            self._process.join()
            if self._reader.is_alive():
                self._reader.join()
        self._sender.shutdown()
        self._connection.close()
        for pixels in self._slots.values():
            pixels.unlink()
            pixels.close()
        self._slots.clear()
        atexit.unregister(self.kill)
        self._process.close()
