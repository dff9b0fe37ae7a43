"""What passes between the engine and its callers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.types import ImageFeatures

EncoderState = Literal["cold", "loading", "ready", "failed"]


@dataclass(frozen=True)
class EncoderInfo:
    """A loaded encoder, without its network; the fields are those of `vlm_ood.encoders.Encoder`.

    Args:
        grid: (h, w) of the patches at the encoder's own input size, None when it gives none.
        batch_size: images of that size in a forward pass at which it is fastest on its device.
    """

    name: str
    digest: str
    dim: int
    scale: float
    device: str
    dtype: str
    capabilities: frozenset[str]
    preprocessing: Preprocessing
    grid: tuple[int, int] | None
    batch_size: int

    def require(self, outputs: Outputs) -> None:
        """Check that the encoder can give what is asked for.

        Raises:
            CapabilityError: it can't; the message names what is missing and what there is.
        """
        outputs.check(self.name, self.capabilities)

    def preprocessing_for(self, outputs: Outputs) -> Preprocessing:
        """From a picture to pixels of the size that is asked for."""
        return self.preprocessing if outputs.size is None else self.preprocessing.at(outputs.size)

    def input_size(self, outputs: Outputs) -> tuple[int, int]:
        """Rows and columns of the network's input, in pixels."""
        return outputs.size or (self.preprocessing.height, self.preprocessing.width)


class HeadAnswer(Protocol):
    """What a head says about n images: plain values and NumPy arrays, since it crosses the pipe of a worker."""

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, rows: slice) -> "HeadAnswer":
        """What it says about some of the images, as a copy or as a view."""


class Head(Protocol):
    """A pure function of the features of images, which a worker runs on its device right after the forward pass.

    It is sent to a worker process once, so it is a record of plain values and NumPy arrays, of a class that can be
    imported there.
    """

    @property
    def digest(self) -> str:
        """Heads with equal digests are equal functions."""

    @property
    def outputs(self) -> Outputs:
        """What the function reads of an image."""

    @property
    def nbytes(self) -> int:
        """About how many bytes its state takes in memory."""

    def on(self, device: torch.device) -> Callable[[ImageFeatures], HeadAnswer]:
        """The function, with its state on the device: n images to an answer about n images, each alone.

        Raises:
            VlmOodError: the state can't be used.
        """


def outputs_of(head: Head | None) -> Outputs:
    """What the forward pass gives: what the head reads, or pooled features without a head."""
    return POOLED if head is None else head.outputs


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """One image after the network.

    Args:
        features: pooled, of one row.
        answer: of the head, about one image; None without a head.
    """

    features: ImageFeatures
    answer: HeadAnswer | None = None


@dataclass
class Timings:
    """The longest that an image of the request spent in each stage, in seconds; 0 for what came from a cache.

    Args:
        queue_s: waiting for a decode thread, a place in a batch and the device.
        decode_s: hashing, decoding and preprocessing.
        encode_s: the forward pass of its batch.
    """

    queue_s: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0

    def include(self, queue_s: float, decode_s: float, encode_s: float) -> None:
        """Take another image into account."""
        self.queue_s = max(self.queue_s, queue_s)
        self.decode_s = max(self.decode_s, decode_s)
        self.encode_s = max(self.encode_s, encode_s)


@dataclass(frozen=True)
class QueueState:
    """What is in the engine now.

    Args:
        items: images and texts admitted and not yet answered.
        bytes: of these, files and pixels together.
        oldest_wait_s: since the first of the queue was put there.
        predicted_wait_s: until all of it is encoded.
        back_in_s: until a worker takes batches, as predicted; 0 while one does.
    """

    items: int
    bytes: int
    oldest_wait_s: float
    predicted_wait_s: float
    back_in_s: float = 0.0
