"""An engine without queues or workers that keeps to the contract, and pictures to send it."""

import asyncio
import base64
import io
import threading
from collections.abc import Sequence
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from service.engine import EncodedImage, EncoderInfo, EngineError, Head, QueueState, Timings
from tests.fakes import GRID, FakeEncoder
from vlm_ood.encoders.outputs import POOLED
from vlm_ood.errors import ImageError, UnknownNameError, VlmOodError
from vlm_ood.images import ImageLimits, load_image
from vlm_ood.types import ImageFeatures

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=1_000_000)


class FakeEngine:
    """Answers at once; set `failure` to make the next calls raise it, clear `gate` to hold images."""

    def __init__(self, names: Sequence[str] = ("fake", "other")) -> None:
        self.encoders = {name: FakeEncoder(name=name) for name in names}
        self.failure: EngineError | None = None
        self.probes = self.cancelled = 0
        self.gate, self.encoding, self.may_start = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.may_start.set()
        self.began, self.ended = threading.Event(), threading.Event()  # for other threads: encoding, cancelled
        self.loop: asyncio.AbstractEventLoop | None = None
        self.running = False
        self.tenants: list[str] = []  # who asked for each call that encodes

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.may_start.wait()
        self.running = True

    def let(self, event: asyncio.Event) -> None:
        """Set an event of the engine's loop from another thread."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(event.set)

    async def stop(self) -> None:
        self.running = False

    def encoder_names(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    def encoder_state(self, name: str) -> Literal["cold", "loading", "ready", "failed"]:
        return "ready" if name == self.encoder_names()[0] else "cold"

    async def encoder(self, name: str) -> EncoderInfo:
        if name not in self.encoders:
            raise UnknownNameError("encoder", name, self.encoders)
        fake = self.encoders[name]
        return EncoderInfo(
            name=name,
            digest=fake.digest,
            dim=fake.dim,
            scale=fake.scale,
            device="cpu",
            dtype="float32",
            capabilities=frozenset(fake.capabilities),
            preprocessing=fake.preprocessing,
            grid=(GRID, GRID),
            batch_size=fake.batch_size,
        )

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
        self._fail()
        self.tenants.append(tenant)
        self.encoding.set()
        self.began.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.ended.set()
            raise
        if timings is not None:
            timings.include(0.001, 0.002, 0.003)
        return [self._encoded(encoder, content, head) for content in contents]

    async def encode_text(
        self,
        encoder: str,
        prompts: Sequence[str],
        *,
        tenant: str = "",
        normalise: bool = True,
        deadline_s: float | None = None,
    ) -> Tensor:
        self._fail()
        self.tenants.append(tenant)
        return self.encoders[encoder].encode_text(prompts, normalise=normalise)

    async def probe(self) -> None:
        self.probes += 1
        self._fail()

    def queue_state(self) -> QueueState:
        return QueueState(0, 0, 0.0, 0.0)

    def _encoded(self, encoder: str, content: bytes, head: Head | None) -> EncodedImage | VlmOodError:
        try:
            outputs = POOLED if head is None else head.outputs
            features = self.encoders[encoder].encode_images([load_image(content, LIMITS)], outputs)
            answer = None if head is None else head.on(features.pooled.device)(features)
            return EncodedImage(ImageFeatures(features.pooled), answer)
        except ImageError as error:
            return error

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


def png(colour: str = "red", size: tuple[int, int] = (16, 16)) -> bytes:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def files(*pictures: bytes, field: str = "images") -> list[tuple[str, tuple[str, bytes, str]]]:
    """Pictures as httpx sends them."""
    return [(field, (f"{row}.png", content, "image/png")) for row, content in enumerate(pictures)]


def in_base64(*pictures: bytes) -> list[dict[str, Any]]:
    """Pictures as JSON carries them."""
    return [
        {"name": f"{row}.png", "content": base64.b64encode(content).decode()} for row, content in enumerate(pictures)
    ]
