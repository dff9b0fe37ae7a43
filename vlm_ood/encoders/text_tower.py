"""The text half of an encoder: prompts to tokens, tokens to embeddings, embeddings to vectors of the joint space.

The last step is differentiable in the embeddings and is all that prompt tuning needs. Four context vectors in the place
of four placeholder tokens, between the start token and the class name:

    tower = encoder.text_tower()
    tokens = tower.cut(tower.tokenise(["X X X X cat.", "X X X X dog."]))            # (n, l)
    embeddings = tower.embed(tokens)                                               # (n, l, w)
    context = context.expand(len(tokens), -1, -1)                                  # (n, 4, w), takes a gradient
    embeddings = torch.cat([embeddings[:, :1], context, embeddings[:, 5:]], dim=1)
    vectors = tower.encode_embeddings(embeddings, tokens)                          # (n, d)

In a causal tower a token sees only those before it, and the vector of a prompt is read at its end-of-text; what follows
is padding without any effect. CLIP's context has 77 tokens, a prompt with a class name about ten. So `cut` drops the
padding behind the longest prompt, and `encode` sorts prompts by length to cut each batch tightly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Final, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

CPU_PROMPTS: Final = 32  # a token costs the same in a batch of 32 as in one of 128, and the smaller is cut tighter

T = TypeVar("T", bound="TextTower")


class TextTower(nn.Module, ABC):
    """A text network that also takes token embeddings; its weights take no gradient, except in a `trainable_copy`.

    Attributes:
        context: tokens of a prompt at most, start and end included.
        width: length of a token embedding.
        dim: d, length of the vectors.
    """

    context: int
    width: int
    dim: int

    @abstractmethod
    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """Tokens on the CPU, padded to one length; a prompt longer than the context is cut and keeps its end-of-text.

        Raises:
            HubError: the tokenizer's files are on a hub that can't be reached.
            CheckpointError: the tokenizer's files are damaged.
        """

    @abstractmethod
    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """How many leading tokens decide the vector of each prompt; all of them where a tower attends to padding."""

    @abstractmethod
    def embed(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        """Token embeddings without positions, on the tower's device, in its precision."""

    @abstractmethod
    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Vectors of prompts from their token embeddings, fp32, before normalisation; differentiable.

        Args:
            embeddings: from `embed`, or others in their place; converted to the tower's precision.
            tokens: which the embeddings stand for, from `tokenise`, perhaps cut: they tell end-of-text and padding.
        """

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def cut(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, "n k"]:
        """The tokens without the columns that decide no vector."""
        return tokens[:, : int(self.lengths(tokens).max())]

    def encode(
        self,
        tokens: Int[Tensor, "n l"],
        embeddings: Float[Tensor, "n l w"] | None = None,
        *,
        batch_size: int = 256,
        progress: Callable[[int], object] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Vectors of any number of prompts, as `encode_embeddings` gives them, in the order given.

        Args:
            tokens: at least one row, from `tokenise`.
            embeddings: of the tokens; by default from `embed`, a batch at a time.
            batch_size: prompts in a forward pass.
            progress: called with the number of prompts done since the last call.
        """
        lengths, order = self.lengths(tokens).sort(stable=True)
        parts = []
        for rows, ascending in zip(torch.split(order, batch_size), torch.split(lengths, batch_size), strict=True):
            longest = int(ascending[-1])
            part = tokens[rows, :longest]
            parts.append(
                self.encode_embeddings(
                    self.embed(part) if embeddings is None else embeddings[rows.to(embeddings.device), :longest], part
                )
            )
            if progress is not None:
                progress(len(rows))
        vectors = torch.cat(parts)
        return vectors[order.argsort().to(vectors.device)]

    def trainable_copy(self: T) -> T:
        """A copy on the same device whose weights are fp32 and take gradients; dropout stays off."""
        return deepcopy(self).float().requires_grad_(True)


def encode_prompts(
    tower: TextTower,
    prompts: Sequence[str],
    *,
    normalise: bool,
    batch_size: int,
    progress: Callable[[int], object] | None,
) -> Float[Tensor, "n d"]:
    """What `TextEncoder.encode_text` gives, for encoders with a `TextTower`; arguments as there."""
    if not prompts:
        return torch.empty(0, tower.dim, device=tower.device)
    if tower.device.type == "cpu":
        batch_size = min(batch_size, CPU_PROMPTS)
    with torch.no_grad():  # not inference_mode: a tuner may train against these vectors
        vectors = tower.encode(tower.tokenise(prompts), batch_size=batch_size, progress=progress)
        return functional.normalize(vectors, dim=-1) if normalise else vectors


def causal_mask(length: int, like: Tensor) -> Float[Tensor, "l l"]:
    """Added to attention logits: 0 for a token and those before it, minus infinity for those behind it."""
    return torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device).triu(1)


def row_at(states: Float[Tensor, "n l w"], places: Int[Tensor, " n"]) -> Float[Tensor, "n w"]:
    """The state of each prompt at its own place."""
    return states[torch.arange(len(states), device=states.device), places.to(states.device)]


def unpadded(tokens: Int[Tensor, "n l"], padding: int) -> Int[Tensor, " n"]:
    """Lengths up to the last token that isn't padding."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return ((tokens != padding) * places).amax(dim=1)
