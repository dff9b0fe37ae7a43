"""Settings of an engine."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from vlm_ood.encoders import Encoder, load_encoder
from vlm_ood.encoders.device import Precision
from vlm_ood.images import ImageLimits

MIB = 2**20
START_ATTEMPTS = 5  # of a process that the server needs before it can serve; the pauses between them are 7.5 s

Loader = Callable[[str, str, Precision], Encoder]


def load_by_name(name: str, device: str, dtype: Precision) -> Encoder:
    """The encoder of that name on that device."""
    return load_encoder(name, device=device, dtype=dtype)


@dataclass(frozen=True)
class EngineSettings:
    """What an engine loads, where it runs, and its limits; sizes in bytes, times in seconds.

    Args:
        encoders: what may be asked for; the first is the default, loaded at the start and never evicted.
        device: "auto" and "cuda" take every CUDA device, one worker each; "cuda:1", "cpu" and "mps" take one.
        dtype: precision of the networks.
        workers: "process" isolates networks and decoders from the server; "inline" runs them in threads of it.
        decode_processes: pictures decoded at once, by default one a core; in threads when `workers` is "inline".
        decode_cpu_s: of one picture; its process is killed and the picture gets an error.
        decode_memory_bytes: of one picture, likewise.
        pixel_bytes: memory for images between decoding and the network; allocated at the start.
        max_batch: images of the encoder's own size in a forward pass, fewer of a larger size; by default its own
            `batch_size`.
        max_wait_s: how long a batch that is not full waits for more when a worker is free; 0 sends it at once.
        max_queue_items: images and texts admitted and not yet answered.
        max_queue_bytes: of these, files and pixels together.
        deadline_s: of a request that names none.
        drain_s: how long `stop` waits for what was admitted.
        image_cache_bytes: image features and answers of heads kept; 0 keeps none.
        head_bytes: heads kept on each device; the least recently used one makes room.
        prompt_cache_bytes: vectors of single prompts kept.
        max_encoders_loaded: on each device, the default one included.
        image_limits: what a picture may cost.
        load_timeout_s: for loading and warming one encoder up.
        decode_timeout_s: a decoder that takes longer over a picture hangs and is killed.
        batch_timeout_s: a worker that takes longer over a batch hangs and is killed; where batches like it were seen,
            so does one that takes ten times as long as predicted, and more than ten seconds.
        restart_backoff_s: before the first restart of a worker; doubles with each that fails.
        restart_backoff_max_s: never longer than this.
        load: makes an encoder inside the worker; a function that the worker process can import.
    """

    encoders: tuple[str, ...] = ("embedded",)
    device: str = "auto"
    dtype: Precision = "auto"
    workers: Literal["process", "inline"] = "process"
    decode_processes: int | None = None
    decode_cpu_s: float = 5.0
    decode_memory_bytes: int = 1024 * MIB
    pixel_bytes: int = 64 * MIB
    max_batch: int | None = None
    max_wait_s: float = 0.0
    max_queue_items: int = 256
    max_queue_bytes: int = 256 * MIB
    deadline_s: float = 10.0
    drain_s: float = 30.0
    image_cache_bytes: int = 64 * MIB
    head_bytes: int = 256 * MIB
    prompt_cache_bytes: int = 256 * MIB
    max_encoders_loaded: int = 2
    image_limits: ImageLimits = field(default_factory=lambda: ImageLimits(20 * MIB, 40_000_000))
    load_timeout_s: float = 600.0
    decode_timeout_s: float = 30.0
    batch_timeout_s: float = 120.0
    restart_backoff_s: float = 0.5
    restart_backoff_max_s: float = 30.0
    load: Loader = load_by_name

    def pause_s(self, failures: int) -> float:
        """Before a process is started again, when so many starts before it came to nothing."""
        return min(self.restart_backoff_s * 2.0 ** min(failures, 16), self.restart_backoff_max_s)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
