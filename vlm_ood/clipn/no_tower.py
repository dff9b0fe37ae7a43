"""CLIPN's no-tower: a trained copy of an encoder's text tower whose vectors mean the negation of a prompt.

Paper: Wang et al., ICCV 2023, arXiv 2308.12213. 16 contexts, `prompt_no`, are learned with it. The paper draws them
as tokens before the caption; in the authors' code, and here, each is a table of one vector per position, added to the
token embeddings.
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vlm_ood.encoders.base import TextEncoder
from vlm_ood.encoders.text_tower import TextTower

CONTEXTS: Final = 16  # the authors' number
CHOICES: Final = CONTEXTS + 1  # each context alone, and their mean


class NoTower(TextTower):
    """A text tower in fp32 on the device of the one it copies, trainable in all its parts.

    The names of its parts are those of the original with `_no` behind the first component, as in the authors'
    checkpoints: the keys of a file are those of the module.

    Args:
        text: which to copy; it stays as it is.
    """

    def __init__(self, text: TextTower) -> None:
        super().__init__()
        self.context, self.width, self.dim = text.context, text.width, text.dim
        copy = text.trainable_copy()
        self._copy = (copy,)  # in a tuple: its parts are registered once, under their names below
        for name, part in copy.named_children():
            self.add_module(f"{name}_no", part)
        for name, parameter in copy.named_parameters(recurse=False):
            self.register_parameter(f"{name}_no", parameter)
        self.prompt_no = nn.Parameter(torch.zeros(CONTEXTS, text.context, text.width, device=text.device))
        self.eval()

    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """As the original does."""
        return self._copy[0].tokenise(prompts)

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """As the original does."""
        return self._copy[0].lengths(tokens)

    def embed(self, tokens: Int[Tensor, "n l"], choices: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n l w"]:
        """Token embeddings plus a learned context at every position.

        Args:
            tokens: from `tokenise`, perhaps cut.
            choices: the number of the context for each prompt, in [0, 16]; 16 is the mean of all. By default the mean,
                as everywhere outside training.
        """
        return self._copy[0].embed(tokens) + self._contexts(tokens.shape[1], choices)

    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """As the original does, with the trained weights."""
        return self._copy[0].encode_embeddings(embeddings, tokens)

    def forward(self, prompts: Sequence[str], choices: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n d"]:
        """Unit vectors of the negated prompts, differentiable.

        Args:
            prompts: whole sentences, affirmative ones: the tower negates them.
            choices: as in `embed`.
        """
        tokens = self.cut(self.tokenise(prompts))
        return functional.normalize(self.encode_embeddings(self.embed(tokens, choices), tokens), dim=-1)

    def trained(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _contexts(self, length: int, choices: Int[Tensor, " n"] | None) -> Float[Tensor, "#n l w"]:
        """A product with one-hot or even weights: unlike indexing, its gradient sums in a fixed order."""
        weights = torch.eye(CHOICES, CONTEXTS, device=self.prompt_no.device)
        weights[-1] = 1 / CONTEXTS
        chosen = weights[-1:] if choices is None else weights[choices.to(weights.device)]
        return torch.einsum("np,plw->nlw", chosen, self.prompt_no[:, :length])


def copy_text_tower(encoder: TextEncoder) -> NoTower:
    """An untrained no-tower: its vectors are those of the encoder's own text tower.

    Raises:
        CapabilityError: an encoder without "text_gradients".
    """
    return NoTower(encoder.text_tower())
