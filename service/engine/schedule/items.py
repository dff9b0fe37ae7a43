"""What waits in the queue, and what goes to a worker together."""

import asyncio
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from jaxtyping import Float, UInt8
from torch import Tensor

from vlm_ood.errors import VlmOodError
from vlm_ood.types import ImageFeatures

R = TypeVar("R")

Kind = Literal["images", "patches", "text"]
Reason = Literal["full", "worker_free", "wait_elapsed"]


@dataclass(frozen=True)
class BatchKey:
    """Only items of one key may share a batch.

    Args:
        max_cost: of a batch, in images or prompts.
    """

    encoder: str
    kind: Kind
    max_cost: int


@dataclass(eq=False)
class Item(Generic[R]):
    """One piece of work and the promise of its result; whoever leaves cancels the promise.

    Args:
        lane: the request it belongs to; requests take turns.
        deadline: on the event loop's clock.
        cost: its share of a batch's `max_cost`.
        alone: shares a batch with nothing; so does what was in a batch that failed.
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
    result: asyncio.Future[R] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def succeed(self, result: R) -> None:
        """Keep the promise, unless nobody waits any more."""
        if not self.result.done():
            self.result.set_result(result)

    def fail(self, error: VlmOodError) -> None:
        """Break the promise."""
        if not self.result.done():
            self.result.set_exception(error)


@dataclass(eq=False, kw_only=True)
class ImageItem(Item[ImageFeatures]):
    """One preprocessed image."""

    pixels: UInt8[Tensor, "3 h w"]


@dataclass(eq=False, kw_only=True)
class TextItem(Item[Float[Tensor, "n d"]]):
    """A few prompts."""

    prompts: tuple[str, ...]


AnyItem = ImageItem | TextItem


@dataclass(frozen=True, eq=False)
class Batch:
    """Items of one key.

    Args:
        reason: why it went when it went.
    """

    key: BatchKey
    items: tuple[AnyItem, ...]
    reason: Reason

    @property
    def cost(self) -> int:
        """Of all items."""
        return sum(item.cost for item in self.items)
