"""One request for vectors of prompts: each is kept by its content, and only the rest goes through the network.

It goes there in chunks that take a fraction of a second, and takes turns with the images.
"""

import asyncio
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from service.caching.lru import ByteLru
from service.engine.metrics import EngineMetrics
from service.engine.records import EncoderInfo
from service.engine.schedule.admission import Admission
from service.engine.schedule.items import BatchKey, TextItem
from service.engine.schedule.latency import LatencyBook
from service.engine.schedule.queue import FairQueue
from service.engine.settings import EngineSettings

CHUNK_S = 0.2  # of the device's time, before images have a turn
CHUNK_MIN, CHUNK_MAX = 8, 256
RECORD_BYTES = 512  # of Python objects around a vector


class TextSide:
    """Encodes prompts, and keeps their vectors; tenants share none, for class names may be secret."""

    def __init__(
        self,
        queue: FairQueue,
        admission: Admission,
        latency: LatencyBook,
        metrics: EngineMetrics,
        settings: EngineSettings,
    ) -> None:
        self._queue, self._admission = queue, admission
        self._latency, self._metrics = latency, metrics
        self._prompts: ByteLru[tuple[str, str, str], Float[Tensor, " d"]] = ByteLru(settings.prompt_cache_bytes)

    async def encode(
        self, info: EncoderInfo, prompts: Sequence[str], deadline: float, *, tenant: str, normalise: bool
    ) -> Float[Tensor, "n d"]:
        """Vectors of the prompts, in order.

        Raises:
            EngineError: for the whole request; what was encoded by then is in the cache.
        """
        known = {prompt: self._prompts.get((tenant, info.digest, prompt)) for prompt in dict.fromkeys(prompts)}
        unseen = [prompt for prompt, vector in known.items() if vector is None]
        self._metrics.look_up("prompt", len(known) - len(unseen), len(unseen))
        fresh = await self._encode_unseen(info, unseen, deadline, tenant) if unseen else {}
        rows = [vector if (vector := known[prompt]) is not None else fresh[prompt] for prompt in prompts]
        vectors = torch.stack(rows) if rows else torch.empty(0, info.dim)
        return functional.normalize(vectors, dim=-1) if normalise else vectors

    async def _encode_unseen(
        self, info: EncoderInfo, prompts: list[str], deadline: float, tenant: str
    ) -> dict[str, Tensor]:
        """Encode in chunks, sorted by length so that a chunk pads little."""
        chunk = self._chunk(info.name)
        key = BatchKey(info.name, None, chunk)
        left_s = deadline - asyncio.get_running_loop().time()
        place, *_ = self._admission.admit(key, [min(chunk, len(prompts))], [sum(map(len, prompts))], left_s, tenant)
        lane, ordered = object(), sorted(prompts, key=len)
        vectors: dict[str, Tensor] = {}
        try:
            async with asyncio.timeout_at(deadline):
                for start in range(0, len(ordered), chunk):
                    part = tuple(ordered[start : start + chunk])
                    item = TextItem(key, lane, deadline, len(part), True, tenant=tenant, prompts=part)
                    vectors |= await self._encode_chunk(info, item, tenant)
        except TimeoutError:
            raise self._admission.too_late(
                f"{len(vectors)} of {len(prompts)} prompts were encoded by the deadline and are kept: ask again"
            ) from None
        finally:
            self._admission.release(place)
        return vectors

    async def _encode_chunk(self, info: EncoderInfo, item: TextItem, tenant: str) -> dict[str, Tensor]:
        self._queue.put(item)
        rows = await item.result
        vectors = {prompt: row.clone() for prompt, row in zip(item.prompts, rows, strict=True)}
        for prompt, vector in vectors.items():
            self._prompts.put((tenant, info.digest, prompt), vector, vector.nbytes + len(prompt) + RECORD_BYTES)
        return vectors

    def _chunk(self, encoder: str) -> int:
        slope, _ = self._latency.model(encoder, None).coefficients()
        return min(CHUNK_MAX, max(CHUNK_MIN, int(CHUNK_S / slope))) if slope else CHUNK_MIN
