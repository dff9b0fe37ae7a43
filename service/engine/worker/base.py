"""What the engine expects of a worker."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.engine.decoding.arena import Block
from service.engine.settings import Loader
from service.engine.worker.protocol import EncodedImages, EncodedText, HeadWork, Loaded
from vlm_ood.encoders.device import Precision
from vlm_ood.encoders.outputs import Outputs


class WorkerGoneError(Exception):
    """The worker died before it answered."""


@dataclass(frozen=True)
class WorkerPlan:
    """How a worker is made.

    Args:
        load: makes an encoder.
        device: where it runs.
        dtype: in which it runs.
        threads: of one operation on the CPU; None leaves PyTorch's own choice.
        max_batch: images of an encoder's own size in a batch; None takes its `batch_size`.
    """

    load: Loader
    device: str
    dtype: Precision
    threads: int | None
    max_batch: int | None


class Worker(Protocol):
    """One device, whose jobs run in order.

    A call raises WorkerGoneError when the worker dies, and VlmOodError when its job fails.
    """

    @property
    def lost(self) -> asyncio.Future[str]:
        """Has the reason as its result once the worker is dead."""

    async def start(self) -> None:
        """Start it."""

    async def load(self, name: str) -> Loaded:
        """Load an encoder and warm it up, beside the batches of others."""

    async def unload(self, name: str) -> None:
        """Unload an encoder."""

    async def ping(self) -> None:
        """Return when the worker has done what it was given before."""

    async def encode_images(
        self, name: str, images: Sequence[Block], outputs: Outputs, heads: HeadWork
    ) -> EncodedImages:
        """One forward pass over images of one size, and the heads; batches run in the order of these calls."""

    async def encode_text(self, name: str, prompts: tuple[str, ...]) -> EncodedText:
        """One pass over prompts."""

    def kill(self) -> None:
        """End it now, in the middle of its work."""

    async def stop(self) -> None:
        """End it after the jobs that it was given, and free its resources."""
