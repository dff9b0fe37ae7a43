"""What the rest of the server expects of an engine."""

from collections.abc import Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from service.engine.records import EncodedImage, EncoderInfo, EncoderState, Head, QueueState, Timings
from vlm_ood.errors import VlmOodError


class Engine(Protocol):
    """Images and prompts in, vectors out, for any number of callers and devices.

    Every method belongs to the event loop on which the engine was started. Its vectors are on the CPU.
    """

    async def start(self) -> None:
        """Start the workers; returns when the default encoder can be asked.

        Raises:
            VlmOodError: it can't be loaded, or no worker came up.
        """

    async def stop(self) -> None:
        """Take nothing new, finish what was admitted within a limit of time, end the workers."""

    def encoder_names(self) -> tuple[str, ...]:
        """Names of the encoders that may be asked for, the default first."""

    def encoder_state(self, name: str) -> EncoderState:
        """How far the loading of an encoder is.

        Raises:
            UnknownNameError: it may not be asked for.
        """

    async def encoder(self, name: str) -> EncoderInfo:
        """Describe an encoder; loads it when it is cold.

        Raises:
            UnknownNameError: it may not be asked for.
            VlmOodError: it can't be loaded.
        """

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
        """Pooled features and the head's answer, or the error, of each image, in order.

        Args:
            encoder: its name.
            contents: bytes of image files.
            tenant: who asks; what is kept of its images serves no other. "" for the server's own work.
            head: runs in the worker on all that it reads of an image, which stays there; None for pooled features.
            deadline_s: from now; by default the engine's own.
            timings: is filled.

        Raises:
            UnknownNameError, CapabilityError, InputError: for the request as a whole.
            QueueFull, Draining: come back after `retry_after_s`.
            DeadlineExceeded, WorkerLost: it was tried.
        """

    async def encode_text(
        self,
        encoder: str,
        prompts: Sequence[str],
        *,
        tenant: str = "",
        normalise: bool = True,
        deadline_s: float | None = None,
    ) -> Float[Tensor, "n d"]:
        """fp32 vectors of the prompts, in order.

        Args:
            encoder: its name.
            prompts: whole sentences.
            tenant: who asks, as for images.
            normalise: whether to bring each vector to length 1.
            deadline_s: from now; by default the engine's own.

        Raises:
            UnknownNameError: it may not be asked for.
            QueueFull, Draining: come back after `retry_after_s`.
            DeadlineExceeded, WorkerLost: it was tried; prompts that were encoded are kept.
        """

    async def probe(self) -> None:
        """Run one image through the default encoder.

        Raises:
            EngineError: the engine is not ready, or not able to.
        """

    def queue_state(self) -> QueueState:
        """Items and bytes in the engine now, and how long they wait."""
