"""One request for image features: cache, decode, queue, and one answer for each image."""

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image

from service.engine.decoding.base import Picture
from service.engine.decoding.pool import DecodePool
from service.engine.errors import EngineError
from service.engine.image_cache import ImageCache
from service.engine.metrics import EngineMetrics, reason_of
from service.engine.records import EncodedImage, EncoderInfo, Head, Timings, outputs_of
from service.engine.schedule.admission import Admission
from service.engine.schedule.holdings import Place
from service.engine.schedule.items import BatchKey, ImageItem, image_cost, image_key
from service.engine.schedule.queue import FairQueue
from service.engine.settings import EngineSettings
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import InputError, VlmOodError

Answer = EncodedImage | VlmOodError


@dataclass(frozen=True, eq=False)
class _Request:
    """What the images of one call have in common; it is their lane in the queue."""

    tenant: str
    info: EncoderInfo
    head: Head | None
    outputs: Outputs
    key: BatchKey
    cost: int
    deadline: float
    timings: Timings
    decoding: asyncio.Semaphore


class ImageSide:
    """Encodes images, and keeps what was found in them."""

    def __init__(
        self,
        decoder: DecodePool,
        queue: FairQueue,
        admission: Admission,
        metrics: EngineMetrics,
        settings: EngineSettings,
    ) -> None:
        self._decoder, self._queue, self._admission = decoder, queue, admission
        self._metrics, self._settings = metrics, settings
        self._cache = ImageCache(settings.image_cache_bytes)

    async def encode(
        self,
        info: EncoderInfo,
        contents: Sequence[bytes],
        head: Head | None,
        *,
        tenant: str,
        deadline: float,
        timings: Timings,
    ) -> list[Answer]:
        """The encoded image or the error of each, in order.

        Raises:
            CapabilityError, InputError, EngineError: for the whole request.
        """
        outputs = outputs_of(head)
        key, cost = image_key(info, outputs, self._settings.max_batch), image_cost(info, outputs)
        request = _Request(
            tenant, info, head, outputs, key, cost, deadline, timings, asyncio.Semaphore(2 * self._decoder.size)
        )
        try:
            self._check(info, head)
            answers = await self._all(request, contents)
        except asyncio.CancelledError:
            self._metrics.fail(info.name, "CANCELED", len(contents))
            raise
        except VlmOodError as error:
            self._metrics.fail(info.name, reason_of(error), len(contents))
            raise
        self._count(info.name, answers)
        return answers

    async def probe(self, info: EncoderInfo, deadline: float) -> None:
        """Decode and encode an image beside admission; nothing is counted."""
        block = await self._decoder.pixels(Picture(_blank(*info.input_size(POOLED)), info.preprocessing))
        key, cost = image_key(info, POOLED, self._settings.max_batch), image_cost(info, POOLED)
        await self._through_queue(ImageItem(key, object(), deadline, cost, pixels=block))

    def _check(self, info: EncoderInfo, head: Head | None) -> None:
        if head is None:
            return
        info.require(head.outputs)
        if head.nbytes > self._settings.head_bytes:
            raise InputError(
                f"this method reads patches or stages, so it runs beside the network, and its {head.nbytes:,} bytes "
                f"are more than the {self._settings.head_bytes:,} for all of them: give fewer classes or images, or "
                "raise head_bytes"
            )

    async def _all(self, request: _Request, contents: Sequence[bytes]) -> list[Answer]:
        left_s = request.deadline - asyncio.get_running_loop().time()
        height, width = request.info.input_size(request.outputs)
        sizes = [len(content) + 3 * height * width for content in contents]
        places = self._admission.admit(request.key, [request.cost] * len(sizes), sizes, left_s, request.tenant)
        try:
            async with asyncio.timeout_at(request.deadline), asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(request, content, place))
                    for content, place in zip(contents, places, strict=True)
                ]
        except ExceptionGroup as failed:  # the first has cancelled the others
            raise failed.exceptions[0] from None
        except TimeoutError:
            raise self._admission.too_late("not done by the deadline: allow more time or send less at once") from None
        finally:
            for place in places:
                self._admission.release(place)
        return [task.result() for task in tasks]

    async def _one(self, request: _Request, content: bytes, place: Place) -> Answer:
        try:
            return await self._encoded(request, content)
        except EngineError:  # of the whole request
            raise
        except VlmOodError as error:
            return error
        finally:
            self._admission.release(place)

    async def _encoded(self, request: _Request, content: bytes) -> EncodedImage:
        start = time.perf_counter()
        info, head = request.info, request.head
        async with request.decoding:  # a large request decodes a few images ahead, and leaves decoders to others
            decoded = await self._decoder.decode(
                content,
                info.preprocessing_for(request.outputs),
                lambda sha256: self._cache.get(request.tenant, info, sha256, head),
                tenant=request.tenant,
                until=request.deadline,
            )
        if isinstance(decoded.content, EncodedImage):
            self._metrics.look_up("image", hits=1, misses=0)
            return decoded.content
        self._metrics.look_up("image", hits=0, misses=1)
        item = ImageItem(
            request.key,
            request,
            request.deadline,
            request.cost,
            tenant=request.tenant,
            pixels=decoded.content,
            head=head,
        )
        encoded = await self._through_queue(item)
        queue_s = max(0.0, time.perf_counter() - start - decoded.seconds - item.encode_s)
        request.timings.include(queue_s, decoded.seconds, item.encode_s)
        self._metrics.queue_s.labels(info.name).observe(queue_s)
        self._metrics.decode_s.labels(info.name).observe(decoded.seconds)
        self._cache.put(request.tenant, info, decoded.sha256, head, encoded)
        return encoded

    async def _through_queue(self, item: ImageItem) -> EncodedImage:
        try:
            self._queue.put(item)
            return await item.result
        finally:
            item.pixels.release()

    def _count(self, encoder: str, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if isinstance(answer, VlmOodError):
                self._metrics.fail(encoder, reason_of(answer))
            else:
                self._metrics.success.labels(encoder).inc()


@cache
def _blank(height: int, width: int) -> bytes:
    """A grey JPEG."""
    file = io.BytesIO()
    Image.new("L", (width, height), 127).save(file, "JPEG")
    return file.getvalue()
