"""A worker in threads of this process, for tests and small set-ups: a crash of the network is a crash of the server."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from service.engine.decoding.arena import Block
from service.engine.worker.base import WorkerPlan
from service.engine.worker.executor import Executor
from service.engine.worker.protocol import EncodedImages, EncodedText, HeadWork, Loaded, known_error
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import VlmOodError

T = TypeVar("T")


class InlineWorker:
    """A `Worker` of two threads: one encodes, the other one loads."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._executor = Executor(plan.load, plan.device, plan.dtype)
        self._encoding = ThreadPoolExecutor(1, "encode")
        self._loading = ThreadPoolExecutor(1, "load")
        self._lost: asyncio.Future[str] | None = None

    @property
    def lost(self) -> asyncio.Future[str]:
        """A thread never dies on its own."""
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        return self._lost

    async def start(self) -> None:
        """Nothing to do."""

    async def load(self, name: str) -> Loaded:
        return await _run(self._loading, lambda: self._executor.load(name, self._plan.max_batch))

    async def unload(self, name: str) -> None:
        await _run(self._loading, lambda: self._executor.unload(name))

    async def ping(self) -> None:
        await _run(self._encoding, lambda: None)

    async def encode_images(
        self, name: str, images: Sequence[Block], outputs: Outputs, heads: HeadWork
    ) -> EncodedImages:
        def encode() -> EncodedImages:
            pixels = torch.stack([block.pixels() for block in images])
            return self._executor.encode_images(name, pixels, outputs, heads)

        return await _run(self._encoding, encode)

    async def encode_text(self, name: str, prompts: tuple[str, ...]) -> EncodedText:
        return await _run(self._encoding, lambda: self._executor.encode_text(name, prompts))

    def kill(self) -> None:
        """Mark the worker as lost; a thread can't be killed and runs on."""
        if not self.lost.done():
            self.lost.set_result("given up")

    async def stop(self) -> None:
        wait = not self.lost.done()
        await asyncio.to_thread(self._encoding.shutdown, wait, cancel_futures=True)
        await asyncio.to_thread(self._loading.shutdown, wait, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Run the work in the pool; any error is raised as a VlmOodError, as it is by a worker process."""
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
    except VlmOodError:
        raise
    except Exception as error:
        raise known_error(error) from error
