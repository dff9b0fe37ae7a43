"""Messages on the private pipe between the engine and a worker process."""

from copy import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.engine.records import EncoderInfo, Head, HeadAnswer
from vlm_ood import errors
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import EncoderError, VlmOodError

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Load:
    """Load an encoder and warm it up with batches of up to `max_batch` images, or its own `batch_size`."""

    name: str
    max_batch: int | None


@dataclass(frozen=True)
class Unload:
    """Unload an encoder."""

    name: str


@dataclass(frozen=True)
class Ping:
    """Answer, to show that jobs are taken."""


@dataclass(frozen=True)
class HeadRows:
    """Rows of a batch that one head reads."""

    digest: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class HeadWork:
    """What a worker does with heads for one batch, in this order.

    It is part of the message of the batch. A worker runs its jobs one after another, so a head that is installed or
    dropped here is installed or dropped for every later batch, and the engine need not wait for an answer.

    Args:
        drop: digests of heads that make room.
        install: heads that are new to the worker.
        run: after the forward pass.
    """

    drop: tuple[str, ...] = ()
    install: tuple[Head, ...] = ()
    run: tuple[HeadRows, ...] = ()


NO_HEADS: Final = HeadWork()


@dataclass(frozen=True)
class EncodeImages:
    """Encode images that lie in the memory for pixels.

    Args:
        name: of the encoder.
        offsets: where each begins.
        shape: (3, h, w) of each.
        outputs: what the forward pass gives.
        heads: what is done with it.
    """

    name: str
    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    outputs: Outputs
    heads: HeadWork


@dataclass(frozen=True)
class EncodeText:
    """Encode prompts; the vectors keep the length that the text tower gave them."""

    name: str
    prompts: tuple[str, ...]


Message = Load | Unload | Ping | EncodeImages | EncodeText


@dataclass(frozen=True)
class Timing:
    """How long a pass took while the encoder was warmed up.

    Args:
        outputs: of the pass; None for prompts.
        cost: pixels or prompts.
    """

    outputs: Outputs | None
    cost: int
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """The reply to `Load`: the encoder is ready.

    Args:
        max_batch: images of the encoder's own size in a batch that it was warmed up for.
    """

    info: EncoderInfo
    max_batch: int
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class ErrorReply:
    """The exception with which a job ended."""

    error: VlmOodError

    @classmethod
    def of(cls, error: BaseException) -> "ErrorReply":
        """A copy without traceback and causes, which would keep the job's memory in use."""
        return cls(copy(known_error(error)))


@dataclass(frozen=True)
class EncodedImages:
    """The reply about the n images of a batch.

    Args:
        pooled: (n, d).
        answers: of each of `HeadWork.run`, or the error with which it ended.
        not_installed: digests of heads that the worker could not install; their answers say why.
        seconds: how long the pass and the heads took, without their installation.
    """

    pooled: Vectors
    answers: tuple[HeadAnswer | ErrorReply, ...]
    not_installed: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class EncodedText:
    """The reply about n prompts: their vectors (n, d), and how long the pass took."""

    vectors: Vectors
    seconds: float


def known_error(error: BaseException) -> VlmOodError:
    """The exception itself if its class is one of `vlm_ood.errors`, else an EncoderError that quotes it.

    Only those cross the pipe: an exception of another class may not be possible to unpickle in another process.
    """
    if isinstance(error, VlmOodError) and getattr(errors, type(error).__name__, None) is type(error):
        return error
    return EncoderError(f"{type(error).__name__}: {error}")


Answer = Loaded | EncodedImages | EncodedText | ErrorReply | None


@dataclass(frozen=True)
class Job:
    """A message with a number."""

    number: int
    message: Message


@dataclass(frozen=True)
class Reply:
    """The answer to the job of that number."""

    number: int
    answer: Answer
