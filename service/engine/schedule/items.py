"""Items that wait in the queue, and the batches that are formed of them."""

import asyncio
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from jaxtyping import Float
from torch import Tensor

from service.engine.decoding.arena import Block
from service.engine.records import EncodedImage, EncoderInfo, Head
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import VlmOodError

R = TypeVar("R")

Reason = Literal["full", "worker_free", "wait_elapsed"]


@dataclass(frozen=True)
class BatchKey:
    """Only items of one key may share a batch.

    Args:
        encoder: its name.
        outputs: what the forward pass gives; None for prompts.
        max_cost: of a batch, in pixels or prompts.
    """

    encoder: str
    outputs: Outputs | None
    max_cost: int


@dataclass(eq=False)
class Item(Generic[R]):
    """One piece of work and the future of its result; a caller that leaves cancels the future.

    Args:
        lane: the request it belongs to; requests take turns.
        deadline: on the event loop's clock.
        cost: its share of a batch's `max_cost`.
        alone: shares a batch with nothing; so does what was in a batch that failed.
        tenant: whose request it is; tenants take turns before requests do.
        crashes: workers that died under it.
        enqueued: when, on the monotonic clock.
        encode_s: what its batch took.
    """

    key: BatchKey
    lane: object
    deadline: float
    cost: int = 1
    alone: bool = False
    crashes: int = 0
    enqueued: float = 0.0
    encode_s: float = 0.0
    tenant: str = ""
    result: asyncio.Future[R] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def head_bytes(self) -> dict[str, int]:
        """{digest: bytes} of the heads that a worker must have for it."""
        return {}

    def succeed(self, result: R) -> None:
        """Set the result, unless the caller has left."""
        if not self.result.done():
            self.result.set_result(result)

    def fail(self, error: VlmOodError) -> None:
        """Set the error, unless the caller has left."""
        if not self.result.done():
            self.result.set_exception(error)


@dataclass(eq=False, kw_only=True)
class ImageItem(Item[EncodedImage]):
    """One preprocessed image, and the head that reads its features in the worker."""

    pixels: Block
    head: Head | None = None

    @property
    def head_bytes(self) -> dict[str, int]:
        return {} if self.head is None else {self.head.digest: self.head.nbytes}


@dataclass(eq=False, kw_only=True)
class TextItem(Item[Float[Tensor, "n d"]]):
    """A few prompts."""

    prompts: tuple[str, ...]


AnyItem = ImageItem | TextItem


@dataclass(frozen=True, eq=False)
class ItemBatch:
    """Items of one key.

    Args:
        reason: why it was sent when it was sent.
    """

    key: BatchKey
    items: tuple[AnyItem, ...]
    reason: Reason

    @property
    def cost(self) -> int:
        """Of all items, in pixels or prompts."""
        return sum(item.cost for item in self.items)

    @property
    def count(self) -> int:
        """Images or prompts."""
        return sum(len(item.prompts) if isinstance(item, TextItem) else 1 for item in self.items)


def image_cost(info: EncoderInfo, outputs: Outputs) -> int:
    """Pixels that go through the network for one image.

    A window goes through on its own: (rows - side + 1) * (columns - side + 1) windows of side * side patches each, so
    that windows of 2 and 3 of a grid of 15 x 15 cost as much as 11 images.
    """
    height, width = info.input_size(outputs)
    if info.grid is None or not outputs.windows:
        return height * width
    patch = info.preprocessing.height // info.grid[0], info.preprocessing.width // info.grid[1]
    rows, columns = height // patch[0], width // patch[1]
    places = sum(max(0, rows - side + 1) * max(0, columns - side + 1) * side**2 for side in outputs.windows)
    return height * width + places * patch[0] * patch[1]


def image_key(info: EncoderInfo, outputs: Outputs, max_batch: int | None) -> BatchKey:
    """The key of images of one encoder and one size: a batch holds as many pixels as `max_batch` of its own size do."""
    own = info.preprocessing.height * info.preprocessing.width
    return BatchKey(info.name, outputs, (max_batch or info.batch_size) * own)
