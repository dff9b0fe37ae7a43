"""What a memory holds: vectors of images, each with a cost; the cheapest stay."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Entries:
    """Images in a memory, cheapest first; of equal ones the older first.

    Args:
        vectors: (r, d), at length 1.
        costs: (r,), the lower the longer an image stays.
        labels: (r,), which part of the memory it is in.
    """

    vectors: Float32[Tensor, "r d"]
    costs: Float32[Tensor, " r"]
    labels: Int64[Tensor, " r"]

    def __len__(self) -> int:
        return len(self.costs)

    def __getitem__(self, rows: Int[Tensor, " _"] | Bool[Tensor, " _"]) -> "Entries":
        return Entries(self.vectors[rows], self.costs[rows], self.labels[rows])

    @staticmethod
    def none(dim: int, device: torch.device) -> "Entries":
        """An empty memory."""
        labels = torch.empty(0, dtype=torch.long, device=device)
        return Entries(torch.empty(0, dim, device=device), torch.empty(0, device=device), labels)

    def joined(self, new: "Entries", per_label: int, capacity: int) -> "Entries":
        """The cheapest of these and the new ones: at most `per_label` of each label and `capacity` in all."""
        both = Entries(
            torch.cat([self.vectors, new.vectors]),
            torch.cat([self.costs, new.costs]),
            torch.cat([self.labels, new.labels]),
        )
        both = both[both.costs.argsort(stable=True)]
        return both[(both.ranks < per_label).nonzero().flatten()[:capacity]]

    @property
    def ranks(self) -> Int64[Tensor, " r"]:
        """(r,), how many images of the same label come before each."""
        order = self.labels.argsort(stable=True)
        runs = self.labels[order].contiguous()
        ranks = torch.empty_like(self.labels)
        ranks[order] = torch.arange(len(runs), device=runs.device) - torch.searchsorted(runs, runs)
        return ranks
