"""What the pool expects of a decoder."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

from service.engine.decoding.arena import Block
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits

Loss = Literal["cpu", "memory", "time", "abandoned", "crash"]


@dataclass(frozen=True)
class DecodeLimits:
    """What one picture may cost.

    Args:
        image: limits that its file must keep.
        cpu_s: seconds of a CPU; the system counts whole ones.
        memory_bytes: beside what the decoder has when it begins.
        timeout_s: for a decoder that is stopped or waits for memory on a disk: no CPU time passes in it.
    """

    image: ImageLimits
    cpu_s: float
    memory_bytes: int
    timeout_s: float


@dataclass(eq=False)
class Picture:
    """A file to decode.

    Args:
        content: of the file.
        preprocessing: of the encoder.
        tenant: whose it is; tenants take turns. "" for the server's own.
        until: when its request must be answered, in seconds of the event loop. It may take half of what is left when
            its decoding begins, so that the pictures after it get a decoder in time, however many are endless.
        pixels: cancelled when the caller leaves.
        seconds: that it took a decoder.
    """

    content: bytes
    preprocessing: Preprocessing
    tenant: str = ""
    until: float = math.inf
    pixels: asyncio.Future[Block] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    seconds: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, h, w) of its pixels."""
        return 3, self.preprocessing.height, self.preprocessing.width


class DecoderLostError(Exception):
    """The decoder is of no more use.

    Args:
        reason: a limit on the picture, its caller's leaving, or a death of another cause.
        error: what the picture is told.
    """

    def __init__(self, reason: Loss, error: ImageError) -> None:
        super().__init__(reason, error)
        self.reason, self.error = reason, error


class Decoder(Protocol):
    """Decodes one picture after another."""

    async def start(self) -> None:
        """Return when it can decode.

        Raises:
            DecoderLostError, OSError: it can't.
        """

    async def decode(self, picture: Picture, block: Block) -> None:
        """Write the pixels into the block.

        Raises:
            ImageError: this picture can't be used.
            DecoderLostError: the decoder has to be ended, after which nothing writes into the block.
        """

    async def end(self) -> None:
        """End it now, in the middle of its work, and free its resources."""
