"""Restarts a worker and sends it batches: one runs, the next waits behind it, formed as late as keeps it busy."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from service.caching.flight import SingleFlight
from service.engine.decoding.arena import held
from service.engine.metrics import EngineMetrics
from service.engine.schedule.clock import Clock
from service.engine.schedule.delivery import deliver
from service.engine.schedule.head_book import HeadBook
from service.engine.schedule.items import ImageItem, ItemBatch, TextItem
from service.engine.schedule.latency import LatencyBook
from service.engine.schedule.outage import Outage
from service.engine.schedule.queue import FairQueue
from service.engine.schedule.retry import isolate, reclaim
from service.engine.schedule.watchdog import HANGS_S, Watchdog
from service.engine.settings import START_ATTEMPTS, EngineSettings
from service.engine.worker.base import Worker, WorkerGoneError
from service.engine.worker.protocol import Loaded
from vlm_ood.encoders.outputs import POOLED
from vlm_ood.errors import VlmOodError

AT_ONCE = 2
AT_LEAST_S = 1e-6

log = logging.getLogger(__name__)


class Supervisor:
    """The worker of one device.

    A batch that fails is tried again, one item at a time: a poisoned item fails alone, and an item under which two
    workers died is given up.

    Args:
        make: a new worker.
        wanted: encoders that a new worker loads before it takes a batch.
        clock: of pauses and predictions.
        changed: is called when the worker was lost, or when it is known how long the next one takes.

    Attributes:
        ready: set while a worker takes batches.
        settled: set once a worker is ready or `failure` is known.
        failure: why no worker comes up, though further ones are started; None while that is not known.
    """

    def __init__(
        self,
        make: Callable[[], Worker],
        wanted: Callable[[], tuple[str, ...]],
        queue: FairQueue,
        latency: LatencyBook,
        metrics: EngineMetrics,
        settings: EngineSettings,
        clock: Clock,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self._wanted, self._queue = make, wanted, queue
        self._latency, self._metrics, self._settings = latency, metrics, settings
        self._clock, self._changed = clock, changed
        self._outage = Outage(clock.now)
        self._watchdog: Watchdog | None = None
        self._worker: Worker | None = None
        self._loaded: dict[str, Loaded] = {}
        self._loads: SingleFlight[str, Loaded] = SingleFlight(abandon=False)
        self._heads = HeadBook(settings.head_bytes)
        self._outstanding: deque[ItemBatch] = deque()
        self._since = 0.0
        self._failures = 0
        self.ready = asyncio.Event()
        self.settled = asyncio.Event()
        self.failure: Exception | None = None

    @property
    def worker(self) -> Worker | None:
        """The one that runs; None between two."""
        return self._worker

    async def run(self) -> None:
        """Start one worker after another, until cancelled."""
        while True:
            try:
                await self._live()
            except Exception as error:  # of any class: a device without a supervisor would be lost for good
                log.warning("worker lost: %r", error)
                self._settle(error)
            pause_s = self._pause_s()
            self._failures += 1
            self._outage.begin(pause_s)
            self._changed()
            await self._clock.sleep(pause_s)
            self._metrics.restarts.inc()

    @property
    def answers(self) -> bool:
        """Whether a worker takes batches and has not been silent for long."""
        return self.ready.is_set() and not (self._watchdog is not None and self._watchdog.suspects)

    def back_in_s(self) -> float:
        """Seconds until a worker takes batches, as predicted; 0 while one does."""
        if self.answers:
            return 0.0
        if self.ready.is_set() and self._watchdog is not None:
            return self._outage.whole_s(self._watchdog.left_s + self._pause_s())
        return self._outage.left_s()

    def fail_before(self, deadline: float, error: VlmOodError) -> None:
        """Fail what the worker has and would not be done by then."""
        for batch in self._outstanding:
            for item in batch.items:
                if item.deadline <= deadline:
                    item.fail(error)

    async def ensure(self, name: str) -> Loaded:
        """Load the encoder on this worker, unless it is loaded.

        Raises:
            WorkerGoneError: there is no worker, or it died over it.
            VlmOodError: the encoder can't be loaded.
        """
        if name in self._loaded:
            return self._loaded[name]
        return await self._loads.run(name, lambda: self._load(name))

    async def unload(self, name: str) -> None:
        """Unload the encoder."""
        if self._worker is not None and self._loaded.pop(name, None) is not None:
            await self._worker.unload(name)

    def _settle(self, error: Exception) -> None:
        """Tell who waits for the first worker when a further one is of no use, or none of many came up."""
        if isinstance(error, VlmOodError) or self._failures + 1 >= START_ATTEMPTS:
            self.failure = error
            self.settled.set()

    def _pause_s(self) -> float:
        """Before the next start: twice as long after each that served no batch."""
        return self._settings.pause_s(self._failures)

    async def _live(self) -> None:
        worker = self._make()
        self._outage.begin()
        try:
            await worker.start()
            self._worker = worker
            for name in self._wanted():
                await self.ensure(name)
            await self._serve(worker)
        finally:
            self.ready.clear()
            self.settled.clear()
            self._worker = self._watchdog = None
            self._loaded.clear()
            self._heads = HeadBook(self._settings.head_bytes)
            batches = list(self._outstanding)
            self._outstanding.clear()
            reclaim(self._queue, batches)
            self._outage.begin(self._pause_s())
            self._changed()
            await worker.stop()

    async def _serve(self, worker: Worker) -> None:
        self.failure = None
        self._outage.end()
        self.ready.set()
        self.settled.set()
        feeding, watching = asyncio.create_task(self._feed(worker)), asyncio.create_task(self._watch(worker))
        try:
            either: set[asyncio.Future[Any]] = {feeding, worker.lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            feeding.cancel()
            watching.cancel()
            await asyncio.wait({feeding, watching})
        if not feeding.cancelled() and (error := feeding.exception()) is not None:
            raise error
        raise WorkerGoneError(worker.lost.result())

    async def _watch(self, worker: Worker) -> None:
        """Kill the worker when it is silent for too long."""
        self._watchdog = Watchdog(worker.ping, self._running, self._limit_s, self._clock, self._changed)
        await self._watchdog.watch()
        log.error("the worker of %d batches is stopped or hangs: it is killed", len(self._outstanding))
        worker.kill()

    def _running(self) -> ItemBatch | None:
        """The batch that the worker has begun; none while its encoder is being loaded, which has a limit of its own."""
        batch = self._outstanding[0] if self._outstanding else None
        return batch if batch is not None and batch.key.encoder in self._loaded else None

    def _limit_s(self, batch: ItemBatch) -> float:
        """Ten times what is predicted from batches like it; where none was seen, or while it loads, what is set."""
        most_s = self._settings.batch_timeout_s
        if len(self._loads) or not math.isfinite(self._latency.age_s(batch.key)):
            return most_s
        return min(most_s, max(HANGS_S, 10 * self._latency.predict_s(batch.key, batch.cost)))

    async def _feed(self, worker: Worker) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await places.acquire()
                batch = await self._queue.take(self._free_in_s)
                if not self._outstanding:
                    self._since = time.monotonic()
                self._outstanding.append(batch)
                group.create_task(self._execute(worker, batch, places))

    async def _execute(self, worker: Worker, batch: ItemBatch, places: asyncio.Semaphore) -> None:
        self._metrics.dispatches.labels(batch.key.encoder, batch.reason).inc()
        try:
            await self.ensure(batch.key.encoder)
            seconds = await self._encode(worker, batch)
        except WorkerGoneError:
            return  # the batch stays outstanding and is reclaimed; the place stays taken
        except TimeoutError:
            log.error("%s was not loaded within %.0f s", batch.key.encoder, self._settings.load_timeout_s)
            worker.kill()
            return
        except VlmOodError as error:
            isolate(self._queue, batch.items, error)
        else:
            self._learn(batch, seconds)
        self._outstanding.remove(batch)
        self._since = time.monotonic()
        places.release()
        self._queue.look_again()

    def _free_in_s(self) -> float:
        """Seconds until the batch that runs is done, as predicted; above 0, since it isn't done."""
        if not self._outstanding:
            return 0.0
        predicted_s = self._latency.predict_s(self._outstanding[0].key, self._outstanding[0].cost)
        return max(AT_LEAST_S, self._since + predicted_s - time.monotonic())

    def _learn(self, batch: ItemBatch, seconds: float) -> None:
        self._failures = 0
        name = batch.key.encoder
        self._latency.model(name, batch.key.outputs).observe(batch.cost, seconds)
        self._metrics.executions.labels(name).inc()
        self._metrics.inferences.labels(name).inc(batch.count)
        self._metrics.batch_size.labels(name).observe(batch.count)
        self._metrics.encode_s.labels(name).observe(seconds)

    async def _encode(self, worker: Worker, batch: ItemBatch) -> float:
        """Run the batch and set its results; returns the seconds that the device took."""
        first = batch.items[0]
        if isinstance(first, TextItem):
            text = await worker.encode_text(batch.key.encoder, first.prompts)
            first.encode_s = text.seconds
            first.succeed(torch.from_numpy(text.vectors))
            return text.seconds
        items = [item for item in batch.items if isinstance(item, ImageItem)]
        pixels = [item.pixels for item in items]
        heads = self._heads.send([item.head for item in items])  # no await from here to the call of the worker
        with held(pixels):  # a caller that leaves releases its own, which the worker may be reading
            encoded = await worker.encode_images(batch.key.encoder, pixels, batch.key.outputs or POOLED, heads)
        self._heads.forget(encoded.not_installed)
        for failed, error in deliver(items, heads, encoded):
            isolate(self._queue, failed, error)
        return encoded.seconds

    async def _load(self, name: str) -> Loaded:
        if self._worker is None:
            raise WorkerGoneError("there is no worker now")
        async with asyncio.timeout(self._settings.load_timeout_s):
            loaded = await self._worker.load(name)
        for timing in loaded.timings:
            self._latency.model(name, timing.outputs).expect(timing.cost, timing.seconds)
        self._loaded[name] = loaded
        return loaded
