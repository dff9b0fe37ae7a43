"""The nearest labelled images of each image, in bounded memory however many labelled images there are."""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from vlm_ood.errors import TaskError
from vlm_ood.types import REMEDIES, Task

CELLS: Final = 2**22  # products in memory at once, 16 MiB; more is no faster (benchmarks/neighbours.py)
ROWS: Final = 256  # images in a block; with more, a block of labelled images would be short


def largest_products(images: Float[Tensor, "n d"], rows: Float[Tensor, "s d"], k: int) -> Float[Tensor, "n k"]:
    """Per image the k largest products with the rows, largest first; k is at most s.

    All pairs are compared, a block of images with a block of rows at a time, and the k best so far are kept.
    """
    size = max(1, min(ROWS, len(images), CELLS // k))
    return torch.cat([_of_block(block, rows, k, max(1, CELLS // size)) for block in torch.split(images, size)])


def _of_block(images: Float[Tensor, "n d"], rows: Float[Tensor, "s d"], k: int, size: int) -> Float[Tensor, "n k"]:
    best = images.new_empty(len(images), 0)
    for block in torch.split(rows, size):
        found = torch.cat([best, images @ block.T], dim=1)
        best = found.topk(min(k, found.shape[1]), dim=1).values
    return best


def labelled(task: Task) -> Float[Tensor, "s d"]:
    """The vectors of the labelled images on the task's device, where they are not copied if they lie there.

    Raises:
        TaskError: the task has none.
    """
    if task.support is None:
        raise TaskError(f"labelled images are needed: vo.Task(classes=..., {REMEDIES['support']})")
    return task.support.features.pooled.to(task.classes.embeddings.device)
