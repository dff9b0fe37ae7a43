"""What goes over the private pipe between the engine and a worker process."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.engine.records import EncoderInfo
from vlm_ood import errors
from vlm_ood.errors import EncoderError, VlmOodError

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Load:
    """Load an encoder and warm it up with batches of up to `max_batch`, or its own `batch_size`."""

    name: str
    max_batch: int | None


@dataclass(frozen=True)
class Attach:
    """Map the shared memory through which the encoder's pixels come."""

    name: str
    segment: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Unload:
    """Let go of an encoder."""

    name: str


@dataclass(frozen=True)
class EncodeImages:
    """Encode the first `count` images of a slot."""

    name: str
    slot: int
    count: int
    patches: bool


@dataclass(frozen=True)
class EncodeText:
    """Encode prompts; the vectors keep the length that the text tower gave them."""

    name: str
    prompts: tuple[str, ...]


Message = Load | Attach | Unload | EncodeImages | EncodeText


@dataclass(frozen=True)
class Timing:
    """What warming up measured."""

    kind: str
    n: int
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """An encoder stands ready.

    Args:
        max_batch: images in a batch that it was warmed up for.
    """

    info: EncoderInfo
    max_batch: int
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class EncodedImages:
    """pooled (n, d), patches (n, p, d) or None, and what the pass took."""

    pooled: Vectors
    patches: Vectors | None
    grid: tuple[int, int] | None
    seconds: float


@dataclass(frozen=True)
class EncodedText:
    """vectors (n, d), and what the pass took."""

    vectors: Vectors
    seconds: float


@dataclass(frozen=True)
class ErrorReply:
    """The exception with which a job ended; its traceback stays in the worker."""

    error: VlmOodError


def known_error(error: BaseException) -> VlmOodError:
    """The exception itself if its class is one of `vlm_ood.errors`, else an EncoderError that quotes it.

    Only those cross the pipe: any other might not be what can be made again in another process.
    """
    if isinstance(error, VlmOodError) and getattr(errors, type(error).__name__, None) is type(error):
        return error
    return EncoderError(f"{type(error).__name__}: {error}")


Answer = Loaded | EncodedImages | EncodedText | ErrorReply | None


@dataclass(frozen=True)
class Job:
    """A numbered message."""

    number: int
    message: Message


@dataclass(frozen=True)
class Reply:
    """The answer to the job of that number."""

    number: int
    answer: Answer
