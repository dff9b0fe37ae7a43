"""The work of a worker, in a process of its own or not: load encoders, warm them up, run batches and heads."""

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import UInt8
from torch import Tensor

from service.engine.records import EncoderInfo
from service.engine.settings import Loader
from service.engine.worker.installed import InstalledHeads
from service.engine.worker.protocol import (
    NO_HEADS,
    EncodedImages,
    EncodedText,
    ErrorReply,
    HeadWork,
    Loaded,
    Timing,
    Vectors,
)
from vlm_ood.encoders import Encoder
from vlm_ood.encoders.device import Precision
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs
from vlm_ood.errors import EncoderError
from vlm_ood.types import ImageFeatures

WARM_UP_PROMPTS = (1, 16)


class Executor:
    """Encoders of one device; loading may run beside encoding, each on one thread."""

    def __init__(self, load: Loader, device: str, dtype: Precision) -> None:
        self._load, self._device, self._dtype = load, device, dtype
        self._encoders: dict[str, Encoder] = {}
        self._heads = InstalledHeads()

    def load(self, name: str, max_batch: int | None) -> Loaded:
        """Load an encoder and warm it up; it can be asked when this returns."""
        encoder = self._load(name, self._device, self._dtype)
        largest = max_batch or encoder.batch_size
        timings = _warm_up(encoder, largest)
        self._encoders[name] = encoder
        return Loaded(_describe(name, encoder), largest, timings)

    def unload(self, name: str) -> None:
        """Unload an encoder and free its memory on the device."""
        self._encoders.pop(name, None)
        gc.collect()
        torch.cuda.empty_cache()  # does nothing without a context

    def encode_images(
        self, name: str, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs, heads: HeadWork = NO_HEADS
    ) -> EncodedImages:
        """Run one forward pass over preprocessed images, and heads on its features."""
        encoder = self._encoders[name]
        self._heads.update(heads, encoder.device)
        start = time.perf_counter()  # an installation is rare: later batches are not predicted to take as long
        features = _forward(encoder, pixels, outputs)
        pooled = _to_array(features.pooled)
        answers = self._heads.run(heads.run, features)
        if any(isinstance(answer, ErrorReply) for answer in answers) and self.device_is_lost():
            raise EncoderError("the device was lost while a head ran")
        return EncodedImages(pooled, answers, self._heads.missing(heads.run), time.perf_counter() - start)

    def encode_text(self, name: str, prompts: Sequence[str]) -> EncodedText:
        """One pass over prompts."""
        start = time.perf_counter()
        vectors = self._encoders[name].encode_text(prompts, normalise=False)
        return EncodedText(_to_array(vectors), time.perf_counter() - start)

    def device_is_lost(self) -> bool:
        """Whether a CUDA error broke the context: nothing but a new process mends that."""
        if not self._device.startswith("cuda"):
            return False
        try:
            torch.cuda.synchronize()
        except Exception:
            return True
        return False


def _forward(encoder: Encoder, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
    if encoder.device.type == "cuda":
        pixels = pixels.pin_memory().to(encoder.device, non_blocking=True)
    return encoder.encode_pixels(pixels, outputs)


def _to_array(vectors: Tensor) -> Vectors:
    array: Vectors = vectors.detach().float().cpu().numpy()
    return array


def _warm_up(encoder: Encoder, largest: int) -> tuple[Timing, ...]:
    """Powers of two up to the largest batch, twice each: the first passes choose kernels, the second are timed."""
    blank = _blank(encoder, largest)
    passes = [(POOLED, min(2**power, largest)) for power in range((largest - 1).bit_length() + 1)]
    if "patches" in encoder.capabilities:
        passes += [(PATCHES, n) for n in sorted({1, largest})]
    timings = []
    for outputs, n in passes:
        for _ in range(2):
            seconds = _seconds(partial(_forward, encoder, blank[:n], outputs))
        timings.append(Timing(outputs, blank[:n, 0].numel(), seconds))
    return (*timings, *_warm_up_text(encoder))


def _warm_up_text(encoder: Encoder) -> list[Timing]:
    timings = []
    for n in WARM_UP_PROMPTS:
        prompts = [f"a photo of a thing number {row}." for row in range(n)]
        for _ in range(2):
            seconds = _seconds(partial(encoder.encode_text, prompts))
        timings.append(Timing(None, n, seconds))
    return timings


def _seconds(work: Callable[[], Tensor | ImageFeatures]) -> float:
    """How long the work takes until its result is on the host."""
    start = time.perf_counter()
    result = work()
    _to_array(result.pooled if isinstance(result, ImageFeatures) else result)
    return time.perf_counter() - start


def _blank(encoder: Encoder, n: int) -> UInt8[Tensor, "n 3 h w"]:
    """Grey images of the encoder's own size."""
    return torch.full((n, 3, encoder.preprocessing.height, encoder.preprocessing.width), 127, dtype=torch.uint8)


def _describe(name: str, encoder: Encoder) -> EncoderInfo:
    return EncoderInfo(
        name=name,
        digest=encoder.digest,
        dim=encoder.dim,
        scale=float(encoder.scale),
        device=str(encoder.device),
        dtype=str(encoder.dtype).removeprefix("torch."),
        capabilities=frozenset(encoder.capabilities),
        preprocessing=encoder.preprocessing,
        grid=_grid(encoder),
        batch_size=encoder.batch_size,
    )


def _grid(encoder: Encoder) -> tuple[int, int] | None:
    if "patches" not in encoder.capabilities:
        return None
    return encoder.encode_pixels(_blank(encoder, 1), PATCHES).grid
