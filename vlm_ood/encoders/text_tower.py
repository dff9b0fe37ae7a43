"""Text towers that run no further than their longest prompt.

In a causal tower a token sees only those before it, and the vector of a prompt is read at its end-of-text. What
follows is padding that nothing reads: CLIP's context has 77 places, a class-name prompt fills about ten. So prompts
are sorted by length and a batch is cut at its longest end-of-text; the vectors are the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


class TextTower(ABC):
    """Prompts to tokens, tokens to vectors of the joint space."""

    @abstractmethod
    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """Tokens of the full context, on the CPU; longer prompts are cut and keep their end-of-text.

        Raises:
            HubError: the tokenizer's files are on a hub that can't be reached.
        """

    @abstractmethod
    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """How many leading tokens decide the vector: up to the end-of-text, or all where the tower isn't causal."""

    @abstractmethod
    def __call__(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Projections as the network gives them, from tokens that may be cut behind the longest of `lengths`."""


def encode_by_length(
    tower: TextTower,
    tokens: Int[Tensor, "n l"],
    *,
    device: torch.device,
    batch_size: int,
    progress: Callable[[int], object] | None = None,
) -> Float[Tensor, "n d"]:
    """Projections of all rows in fp32, in the order given, on `device`.

    Args:
        tower: on `device`.
        tokens: of the full context.
        device: where to run.
        batch_size: rows in a forward pass.
        progress: called with the number of rows done since the last call.
    """
    lengths, order = tower.lengths(tokens).sort(stable=True)
    parts = []
    for rows, ascending in zip(torch.split(order, batch_size), torch.split(lengths, batch_size), strict=True):
        parts.append(tower(tokens[rows, : int(ascending[-1])].to(device)).float())
        if progress is not None:
            progress(len(rows))
    return torch.cat(parts)[order.argsort().to(device)]
