"""The engine of one machine: a queue, workers on its devices, and caches in front of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from jaxtyping import Float
from prometheus_client import CollectorRegistry
from torch import Tensor

from service.caching.flight import SingleFlight
from service.engine.decoding.memory import PixelMemory
from service.engine.decoding.pool import DecodePool
from service.engine.errors import DeadlineExceeded, Draining
from service.engine.images import ImageSide
from service.engine.metrics import EngineMetrics
from service.engine.records import EncodedImage, EncoderInfo, EncoderState, Head, QueueState, Timings
from service.engine.schedule.admission import Admission, no_worker
from service.engine.schedule.clock import Clock
from service.engine.schedule.fleet import Fleet
from service.engine.schedule.latency import LatencyBook
from service.engine.schedule.queue import FairQueue
from service.engine.schedule.roster import Roster
from service.engine.settings import EngineSettings
from service.engine.stopped import StoppedWatch
from service.engine.text import TextSide
from vlm_ood.errors import VlmOodError


class LocalEngine:
    """The `Engine` of one machine: encoders on all its devices behind one queue; make it on the event loop.

    Args:
        settings: limits and places.
        registry: where metrics are registered; by default in a new one.
        clock: of restarts and predictions.
    """

    def __init__(
        self, settings: EngineSettings, registry: CollectorRegistry | None = None, clock: Clock | None = None
    ) -> None:
        clock = clock or Clock()
        self._settings = settings
        self._metrics = EngineMetrics(registry or CollectorRegistry())
        self._pixels = PixelMemory(settings.pixel_bytes)
        latency = LatencyBook(clock.now)
        self._queue = FairQueue(settings.max_wait_s, settings.head_bytes, latency.share_s)
        self._fleet = Fleet(settings, self._pixels, self._wanted, self._queue, latency, self._metrics, clock)
        self._roster = Roster(settings.encoders, settings.max_encoders_loaded, self._fleet.load, self._fleet.unload)
        self._admission = Admission(
            settings.max_queue_items, settings.max_queue_bytes, latency, self._fleet, self._metrics.refuse
        )
        self._decoder = DecodePool(settings, self._pixels, self._metrics)
        self._images = ImageSide(self._decoder, self._queue, self._admission, self._metrics, settings)
        self._text = TextSide(self._queue, self._admission, latency, self._metrics, settings)
        self._stopped = StoppedWatch(lambda: [*self._fleet.processes(), *self._decoder.processes()], clock)
        self._watching: asyncio.Task[None] | None = None
        self._probes: SingleFlight[str, None] = SingleFlight(abandon=True)
        self._show_gauges()

    async def start(self) -> None:
        self._pixels.open()
        self._watching = asyncio.create_task(self._stopped.watch())
        try:
            self._fleet.start()
            await self._decoder.start()
            await self.encoder(self._settings.encoders[0])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        try:
            await self._admission.drain(self._settings.drain_s)
        except TimeoutError:
            self._queue.fail_all(Draining("the server stopped before this was done", self._settings.drain_s))
        await self._decoder.stop()
        await self._fleet.stop()
        if self._watching is not None:
            self._watching.cancel()
        self._queue.fail_all(Draining("the server stopped before this was done", self._settings.drain_s))
        self._pixels.close()

    def encoder_names(self) -> tuple[str, ...]:
        return self._roster.names

    def encoder_state(self, name: str) -> EncoderState:
        return self._roster.state(name)

    async def encoder(self, name: str) -> EncoderInfo:
        async with self._roster.lease(name) as info:
            return info

    async def encode_images(
        self,
        encoder: str,
        contents: Sequence[bytes],
        *,
        tenant: str = "",
        head: Head | None = None,
        deadline_s: float | None = None,
        timings: Timings | None = None,
    ) -> list[EncodedImage | VlmOodError]:
        deadline = self._deadline(deadline_s)
        async with self._lease(encoder, deadline) as info:
            return await self._images.encode(
                info, contents, head, tenant=tenant, deadline=deadline, timings=timings or Timings()
            )

    async def encode_text(
        self,
        encoder: str,
        prompts: Sequence[str],
        *,
        tenant: str = "",
        normalise: bool = True,
        deadline_s: float | None = None,
    ) -> Float[Tensor, "n d"]:
        deadline = self._deadline(deadline_s)
        async with self._lease(encoder, deadline) as info:
            return await self._text.encode(info, prompts, deadline, tenant=tenant, normalise=normalise)

    async def probe(self) -> None:
        """Through decoders, queue and network, as everything else; callers that ask at once share one forward pass."""
        self._admission.check_open(0.0)
        await self._probes.run("probe", self._probe)

    def queue_state(self) -> QueueState:
        held, forecast = self._admission.holdings.all, self._admission.forecast
        return QueueState(
            held.items, held.bytes, self._queue.oldest_wait_s(), forecast.all_s(), self._fleet.back_in_s()
        )

    async def _probe(self) -> None:
        if not self._fleet.ready():
            raise no_worker(self._fleet.back_in_s())
        deadline = self._deadline(None)
        async with self._lease(self._settings.encoders[0], deadline) as info:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._images.probe(info, deadline)
            except TimeoutError:
                raise self._admission.too_late("no forward pass by the deadline") from None

    @asynccontextmanager
    async def _lease(self, encoder: str, deadline: float) -> AsyncIterator[EncoderInfo]:
        """Keep the encoder loaded while the request lasts; a load goes on when the request can't wait for it."""
        self._admission.check_open(deadline - asyncio.get_running_loop().time())
        async with AsyncExitStack() as stack:
            async with _until(deadline, f"{encoder} is still being loaded: try again later"):
                info = await stack.enter_async_context(self._roster.lease(encoder))
            yield info

    def _wanted(self) -> tuple[str, ...]:
        """What a worker loads before it takes a batch: the default encoder and those that the other workers have."""
        return tuple(dict.fromkeys((self._settings.encoders[0], *self._roster.loaded())))

    def _deadline(self, deadline_s: float | None) -> float:
        return asyncio.get_running_loop().time() + (self._settings.deadline_s if deadline_s is None else deadline_s)

    def _show_gauges(self) -> None:
        held = self._admission.holdings
        self._metrics.pending.set_function(lambda: held.all.items)
        self._metrics.pending_bytes.set_function(lambda: held.all.bytes)
        self._metrics.tenants.set_function(lambda: len(held.tenants))
        self._metrics.largest_share.set_function(held.largest_share)
        self._metrics.oldest_wait.set_function(self._queue.oldest_wait_s)
        self._metrics.predicted_wait.set_function(self._admission.forecast.all_s)
        self._metrics.workers.set_function(self._fleet.ready)
        self._metrics.encoders.set_function(lambda: len(self._roster.loaded()))


@asynccontextmanager
async def _until(deadline: float, message: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded(message) from None
