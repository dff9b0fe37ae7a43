"""One request for image features: cache, decode, queue, and one answer for each image."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.caching.lru import ByteLru
from service.engine.errors import EngineError
from service.engine.metrics import EngineMetrics, reason_of
from service.engine.records import EncodedImage, EncoderInfo, Timings
from service.engine.schedule.admission import Admission, Place
from service.engine.schedule.items import BatchKey, ImageItem, image_cost, image_key
from service.engine.schedule.queue import FairQueue
from service.engine.worker.decode import DecodePool
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import VlmOodError
from vlm_ood.types import ImageFeatures

RECORD_BYTES = 2048  # of Python objects around the vectors

CacheKey = tuple[str, str, Outputs]  # encoder's digest, file's SHA-256, outputs


@dataclass(frozen=True, eq=False)
class _Request:
    """What its images have in common; it is their lane in the queue."""

    info: EncoderInfo
    outputs: Outputs
    key: BatchKey
    deadline: float
    timings: Timings
    decoding: asyncio.Semaphore


class ImageSide:
    """Features of images, one row each."""

    def __init__(
        self,
        decoder: DecodePool,
        queue: FairQueue,
        admission: Admission,
        cache: ByteLru[CacheKey, ImageFeatures],
        metrics: EngineMetrics,
    ) -> None:
        self._decoder, self._queue, self._admission = decoder, queue, admission
        self._cache, self._metrics = cache, metrics

    async def encode(
        self,
        info: EncoderInfo,
        outputs: Outputs,
        contents: Sequence[bytes],
        *,
        max_batch: int | None,
        deadline: float,
        timings: Timings,
    ) -> list[EncodedImage]:
        """Features or the error of each image, in order.

        Raises:
            CapabilityError, InputError, EngineError: for the whole request.
        """
        key = image_key(info, outputs, max_batch)
        request = _Request(info, outputs, key, deadline, timings, asyncio.Semaphore(2 * self._decoder.threads))
        try:
            answers = await self._all(request, contents)
        except asyncio.CancelledError:
            self._metrics.fail(info.name, "CANCELED", len(contents))
            raise
        except VlmOodError as error:
            self._metrics.fail(info.name, reason_of(error), len(contents))
            raise
        self._count(info.name, answers)
        return answers

    async def _all(self, request: "_Request", contents: Sequence[bytes]) -> list[EncodedImage]:
        request.info.require(request.outputs)
        left_s = request.deadline - asyncio.get_running_loop().time()
        height, width = request.info.input_size(request.outputs)
        sizes = [len(content) + 3 * height * width for content in contents]
        cost = image_cost(request.info, request.outputs)
        places = self._admission.admit(request.key, [cost] * len(sizes), sizes, left_s)
        try:
            async with asyncio.timeout_at(request.deadline):
                answers = await asyncio.gather(
                    *(self._one(request, content, place) for content, place in zip(contents, places, strict=True))
                )
        except TimeoutError:
            raise self._admission.too_late("not done by the deadline: allow more time or send less at once") from None
        finally:
            for place in places:
                self._admission.release(place)
        for answer in answers:
            if isinstance(answer, EngineError):
                raise answer
        return answers

    async def _one(self, request: "_Request", content: bytes, place: Place) -> EncodedImage:
        try:
            return await self._features(request, content)
        except VlmOodError as error:
            return error
        finally:
            self._admission.release(place)

    async def _features(self, request: "_Request", content: bytes) -> ImageFeatures:
        start = time.perf_counter()
        encoder, outputs = request.info, request.outputs
        async with request.decoding:  # a large request decodes a few images ahead, and leaves threads to others
            decoded = await self._decoder.decode(
                content,
                encoder.preprocessing_for(outputs),
                lambda sha256: self._cache.get((encoder.digest, sha256, outputs)),
            )
        if isinstance(decoded.content, ImageFeatures):
            self._metrics.look_up("image", hits=1, misses=0)
            return decoded.content
        self._metrics.look_up("image", hits=0, misses=1)
        cost = image_cost(encoder, outputs)
        item = ImageItem(request.key, request, request.deadline, cost, pixels=decoded.content)
        self._queue.put(item)
        features = await item.result
        queue_s = max(0.0, time.perf_counter() - start - decoded.seconds - item.encode_s)
        request.timings.include(queue_s, decoded.seconds, item.encode_s)
        self._metrics.queue_s.labels(encoder.name).observe(queue_s)
        self._metrics.decode_s.labels(encoder.name).observe(decoded.seconds)
        self._cache.put((encoder.digest, decoded.sha256, outputs), features, _nbytes(features))
        return features

    def _count(self, encoder: str, answers: Sequence[EncodedImage]) -> None:
        for answer in answers:
            if isinstance(answer, VlmOodError):
                self._metrics.fail(encoder, reason_of(answer))
            else:
                self._metrics.success.labels(encoder).inc()


def _nbytes(features: ImageFeatures) -> int:
    patches = 0 if features.patches is None else features.patches.nbytes
    return int(features.pooled.nbytes + patches + RECORD_BYTES)
