"""What runs in a worker process: jobs come over the pipe, replies go back over it."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection

import torch

from service.engine.decoding.memory import PixelMemory
from service.engine.worker.base import WorkerPlan
from service.engine.worker.executor import Executor
from service.engine.worker.protocol import (
    Answer,
    EncodeImages,
    EncodeText,
    ErrorReply,
    Job,
    Load,
    Ping,
    Reply,
    Unload,
)

EXIT_DEVICE_LOST = 70


def main(plan: WorkerPlan, pixels: PixelMemory, connection: Connection) -> None:
    """Run jobs until the engine closes the pipe or sends None.

    Signals are ignored: the engine handles them and drains first. When it dies, the pipe ends and so does this process.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if plan.threads:
        torch.set_num_threads(plan.threads)
    WorkerProcess(plan, pixels, connection).run()


class WorkerProcess:
    """Batches run on the main thread, loads on another, and a third one sends, so that the device needn't wait."""

    def __init__(self, plan: WorkerPlan, pixels: PixelMemory, connection: Connection) -> None:
        self._pixels, self._connection = pixels, connection
        self._executor = Executor(plan.load, plan.device, plan.dtype)
        self._loader = ThreadPoolExecutor(1, "load")
        self._sender = ThreadPoolExecutor(1, "send")

    def run(self) -> None:
        """Take jobs in order."""
        for job in self._jobs():
            match job.message:
                case Load(name, max_batch):
                    self._loader.submit(self._answer, job.number, partial(self._executor.load, name, max_batch))
                case Unload(name):
                    self._answer(job.number, partial(self._executor.unload, name))
                case Ping():
                    self._answer(job.number, lambda: None)
                case EncodeImages():
                    self._answer(job.number, partial(self._encode_images, job.message))
                case EncodeText(name, prompts):
                    self._answer(job.number, partial(self._executor.encode_text, name, prompts))
        self._loader.shutdown(cancel_futures=True)
        self._sender.shutdown()

    def _jobs(self) -> Iterator[Job]:
        try:
            while (job := self._connection.recv()) is not None:
                yield job
        except (EOFError, OSError):
            os._exit(1)  # the engine is gone: no answer is waited for

    def _answer(self, number: int, work: Callable[[], Answer]) -> None:
        try:
            answer = work()
        except Exception as error:
            if self._executor.device_is_lost():
                os._exit(EXIT_DEVICE_LOST)
            answer = ErrorReply.of(error)
        self._sender.submit(self._send, Reply(number, answer))

    def _send(self, reply: Reply) -> None:
        try:
            self._connection.send(reply)
        except OSError:
            os._exit(1)

    def _encode_images(self, message: EncodeImages) -> Answer:
        pixels = torch.stack([self._pixels.view(offset, message.shape) for offset in message.offsets])
        return self._executor.encode_images(message.name, pixels, message.outputs, message.heads)
