"""The processes that share a training, or the single one without torch.distributed."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Group:
    """This process among `size`.

    Args:
        rank: its number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> "Group":
        """The default group of torch.distributed where it is running, else one process."""
        if distributed.is_available() and distributed.is_initialized():
            return Group(distributed.get_rank(), distributed.get_world_size())
        return Group()

    def gather(self, mine: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "all_b ..."]:
        """The tensors of all processes, concatenated by rank; only this process's own rows carry a gradient.

        Each process then has its own part of the gradient of a loss over all rows: `sum_gradients` completes it.
        """
        if self.size == 1:
            return mine
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(parts, mine.detach().contiguous())
        parts[self.rank] = mine
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place."""
        if self.size == 1:
            return
        works = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            works.append(distributed.all_reduce(parameter.grad, async_op=True))
        for work in works:
            work.wait()


@contextmanager
def process_group(device: str = "auto") -> Iterator[tuple[Group, str]]:
    """The group that `torchrun` describes in the environment, closed in the end; one process without it.

    Args:
        device: what the user asked for; unless that is "cpu", each process of a machine gets a GPU of its own.

    Yields:
        The group, and the device of this process.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Group(), device
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Group.current(), device
    finally:
        distributed.destroy_process_group()
