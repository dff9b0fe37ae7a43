"""What passes between the engine and its callers."""

from dataclasses import dataclass
from typing import Literal

from vlm_ood.encoders.outputs import Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import CapabilityError, VlmOodError
from vlm_ood.types import ImageFeatures

EncoderState = Literal["cold", "loading", "ready", "failed"]

EncodedImage = ImageFeatures | VlmOodError


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
        missing = sorted(outputs.needs - self.capabilities)
        if missing:
            offered = ", ".join(sorted(self.capabilities)) or "pooled features only"
            raise CapabilityError(f"{self.name} gives no {' and no '.join(missing)}; it gives {offered}")

    def preprocessing_for(self, outputs: Outputs) -> Preprocessing:
        """From a picture to pixels of the size that is asked for."""
        return self.preprocessing if outputs.size is None else self.preprocessing.at(outputs.size)

    def input_size(self, outputs: Outputs) -> tuple[int, int]:
        """Rows and columns of the network's input, in pixels."""
        return outputs.size or (self.preprocessing.height, self.preprocessing.width)


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
    """

    items: int
    bytes: int
    oldest_wait_s: float
    predicted_wait_s: float
