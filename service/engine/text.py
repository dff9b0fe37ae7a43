"""Text is a cache first: whole banks by content, single prompts by content, and only the rest goes through a network.

It goes there in chunks that take a fraction of a second, and takes turns with the images.
"""

import asyncio
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from service.caching.flight import SingleFlight
from service.caching.lru import ByteLru
from service.engine.metrics import EngineMetrics
from service.engine.records import EncoderInfo
from service.engine.schedule.admission import Admission
from service.engine.schedule.items import BatchKey, TextItem
from service.engine.schedule.latency import LatencyBook
from service.engine.schedule.queue import FairQueue
from service.engine.settings import EngineSettings
from vlm_ood.digests import digest_of
from vlm_ood.io.cache import bank_cache
from vlm_ood.text.bank import clean_names
from vlm_ood.text.templates import Templates, templates_named
from vlm_ood.types import TextBank

CHUNK_S = 0.2  # of the device's time, before images have a turn
CHUNK_MIN, CHUNK_MAX = 8, 256
PROMPTS_AT_ONCE = 8192  # as in vlm_ood.text: bounds memory for any number of names
RECORD_BYTES = 512  # of Python objects around a vector or a name


class TextSide:
    """Vectors of prompts and banks of names."""

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
        self._prompts: ByteLru[tuple[str, str], Float[Tensor, " d"]] = ByteLru(settings.prompt_cache_bytes)
        self._banks: ByteLru[str, TextBank] = ByteLru(settings.bank_cache_bytes)
        self._building: SingleFlight[str, TextBank] = SingleFlight(abandon=True)
        self._disk = bank_cache()

    async def encode(
        self, info: EncoderInfo, prompts: Sequence[str], deadline: float, *, normalise: bool
    ) -> Float[Tensor, "n d"]:
        """Vectors of the prompts, in order.

        Raises:
            EngineError: for the whole request; what was encoded by then is in the cache.
        """
        known = {prompt: self._prompts.get((info.digest, prompt)) for prompt in dict.fromkeys(prompts)}
        unseen = [prompt for prompt, vector in known.items() if vector is None]
        self._metrics.look_up("prompt", len(known) - len(unseen), len(unseen))
        fresh = await self._encode_unseen(info, unseen, deadline) if unseen else {}
        rows = [vector if (vector := known[prompt]) is not None else fresh[prompt] for prompt in prompts]
        vectors = torch.stack(rows) if rows else torch.empty(0, info.dim)
        return functional.normalize(vectors, dim=-1) if normalise else vectors

    async def bank(
        self, info: EncoderInfo, names: Sequence[str], templates: str | Sequence[str] | Templates, deadline: float
    ) -> TextBank:
        """See `vlm_ood.text.text_bank`: the same digest and, up to rounding, the same values.

        Raises:
            ClassNamesError, TemplateError, UnknownNameError: as there.
            EngineError: for the whole request; what was encoded by then is in the cache.
        """
        names, chosen = clean_names(names), templates_named(templates)
        digest = digest_of("text bank", info.digest, list(names), list(chosen.templates), chosen.average)
        bank = self._banks.get(digest)
        self._metrics.look_up("bank", hits=bank is not None, misses=bank is None)
        if bank is not None:
            return bank
        return await self._building.run(digest, lambda: self._build(info, names, chosen, digest, deadline))

    async def _build(
        self, info: EncoderInfo, names: tuple[str, ...], templates: Templates, digest: str, deadline: float
    ) -> TextBank:
        stored = await asyncio.to_thread(self._disk.get, digest)
        if stored is not None and stored.get("embeddings", torch.empty(0)).shape == (len(names), info.dim):
            embeddings = stored["embeddings"]
        else:
            embeddings = await self._average(info, names, templates, deadline)
            await asyncio.to_thread(self._disk.put, digest, {"embeddings": embeddings})
        bank = TextBank(names, embeddings, digest)
        self._banks.put(digest, bank, embeddings.nbytes + sum(RECORD_BYTES + len(name) for name in names))
        return bank

    async def _average(
        self, info: EncoderInfo, names: tuple[str, ...], templates: Templates, deadline: float
    ) -> Float[Tensor, "c d"]:
        per_part = max(1, PROMPTS_AT_ONCE // len(templates))
        parts = []
        for start in range(0, len(names), per_part):
            part = names[start : start + per_part]
            prompts = [prompt for name in part for prompt in templates.prompts(name)]
            vectors = await self.encode(info, prompts, deadline, normalise=templates.average == "normalise_first")
            parts.append(functional.normalize(vectors.view(len(part), len(templates), -1).mean(dim=1), dim=-1))
        return torch.cat(parts)

    async def _encode_unseen(self, info: EncoderInfo, prompts: list[str], deadline: float) -> dict[str, Tensor]:
        """Sorted by length, so that a chunk pads little."""
        chunk = self._chunk(info.name)
        key = BatchKey(info.name, None, chunk)
        left_s = deadline - asyncio.get_running_loop().time()
        place, *_ = self._admission.admit(key, [min(chunk, len(prompts))], [sum(map(len, prompts))], left_s)
        lane, ordered = object(), sorted(prompts, key=len)
        vectors: dict[str, Tensor] = {}
        try:
            async with asyncio.timeout_at(deadline):
                for start in range(0, len(ordered), chunk):
                    part = tuple(ordered[start : start + chunk])
                    vectors |= await self._encode_chunk(
                        info, TextItem(key, lane, deadline, len(part), True, prompts=part)
                    )
        except TimeoutError:
            raise self._admission.too_late(
                f"{len(vectors)} of {len(prompts)} prompts were encoded by the deadline and are kept: ask again"
            ) from None
        finally:
            self._admission.release(place)
        return vectors

    async def _encode_chunk(self, info: EncoderInfo, item: TextItem) -> dict[str, Tensor]:
        self._queue.put(item)
        rows = await item.result
        vectors = {prompt: row.clone() for prompt, row in zip(item.prompts, rows, strict=True)}
        for prompt, vector in vectors.items():
            self._prompts.put((info.digest, prompt), vector, vector.nbytes + len(prompt) + RECORD_BYTES)
        return vectors

    def _chunk(self, encoder: str) -> int:
        slope, _ = self._latency.model(encoder, None).coefficients()
        return min(CHUNK_MAX, max(CHUNK_MIN, int(CHUNK_S / slope))) if slope else CHUNK_MIN
