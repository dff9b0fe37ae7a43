"""A text tower that learned to say no: a copy of the encoder's own, with no-prompts added to its input.

Paper: Wang et al., ICCV 2023, arXiv 2308.12213. The paper draws the prompts as tokens before the caption; in the
authors' code, and here, they are vectors added to the token and position embeddings at every position.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vlm_ood.encoders.openclip_towers import CausalText
from vlm_ood.encoders.text_tower import TextTower
from vlm_ood.errors import CapabilityError

PROMPTS: Final = 16
CHOICES: Final = PROMPTS + 1  # each prompt alone, and their mean

Tokens = dict[str, Int[Tensor, "n l"]]


class NoTower(nn.Module, ABC):
    """What training and the banks need of a no-tower, whatever the text tower that it copies.

    The names of its parts end in `_no`, as in the authors' checkpoints: the keys of a file are those of the module.

    Args:
        context: tokens that the tower reads at most.
        width: of its token embeddings.
    """

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        self.prompt_no = nn.Parameter(torch.zeros(PROMPTS, context, width))

    @abstractmethod
    def tokenise(self, prompts: Sequence[str]) -> Tokens:
        """Token numbers under "input_ids", padded or cut to the length of the longest prompt of the batch."""

    @abstractmethod
    def encode(self, tokens: Tokens, added: Float[Tensor, "#n l w"]) -> Float[Tensor, "n d"]:
        """Vectors in the encoder's joint space, of any length, with `added` on top of the input embeddings."""

    def forward(self, prompts: Sequence[str], choices: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n d"]:
        """Unit vectors of the prompts, differentiable.

        Args:
            prompts: whole sentences, affirmative ones: the tower does the negating.
            choices: for each which no-prompt to add, in [0, 16]; 16 is the mean of all. By default the mean, as
                everywhere outside training.
        """
        tokens = {name: value.to(self.prompt_no.device) for name, value in self.tokenise(prompts).items()}
        added = self._no_prompts(tokens["input_ids"].shape[1], choices)
        return functional.normalize(self.encode(tokens, added).float(), dim=-1)

    def trained(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _no_prompts(self, length: int, choices: Int[Tensor, " n"] | None) -> Float[Tensor, "#n l w"]:
        """A product with one-hot or even weights: unlike indexing, its gradient sums in a fixed order."""
        weights = torch.eye(CHOICES, PROMPTS, device=self.prompt_no.device)
        weights[-1] = 1 / PROMPTS
        chosen = weights[-1:] if choices is None else weights[choices.to(weights.device)]
        return torch.einsum("np,plw->nlw", chosen, self.prompt_no[:, :length])


class CausalNoTower(NoTower):
    """A copy of the text half of an open_clip model.

    Args:
        text: the text tower of an encoder, which stays as it is.

    Raises:
        CapabilityError: a tower that isn't a CLIP's: causal, with a matrix behind its end-of-text.
    """

    def __init__(self, text: TextTower) -> None:
        if not isinstance(text, CausalText) or not isinstance(text.tower.text_projection, nn.Parameter):
            raise CapabilityError("CLIPN copies the causal text tower of a CLIP, such as ViT-B-16; this one isn't")
        tower = text.tower
        super().__init__(*tower.positional_embedding.shape)
        self.transformer_no = deepcopy(tower.transformer).float()
        self.token_embedding_no = deepcopy(tower.token_embedding).float()
        self.positional_embedding_no = _own(tower.positional_embedding)
        self.ln_final_no = deepcopy(tower.ln_final).float()
        self.text_projection_no = _own(tower.text_projection)
        self.register_buffer("_mask", tower.attn_mask.float().clone(), persistent=False)
        self._text = text
        self.to(tower.attn_mask.device).eval().requires_grad_(True)

    @property
    def original(self) -> Any:
        """The open_clip module whose text half this is a copy of."""
        return self._text.tower

    def tokenise(self, prompts: Sequence[str]) -> Tokens:
        """Cut behind the last end-of-text: a causal tower never looks there."""
        ids = self._text.tokenise(prompts)
        return {"input_ids": ids[:, : int(self._text.lengths(ids).max())]}

    def encode(self, tokens: Tokens, added: Float[Tensor, "#n l w"]) -> Float[Tensor, "n d"]:
        """See `NoTower.encode`."""
        ids = tokens["input_ids"]
        length = ids.shape[1]
        inputs = self.token_embedding_no(ids) + self.positional_embedding_no[:length] + added
        mask: Tensor = self._mask[:length, :length]  # type: ignore[index]
        states = self.transformer_no(inputs, attn_mask=mask)
        ends = states[torch.arange(len(ids), device=ids.device), self._text.lengths(ids) - 1]
        projected: Tensor = self.ln_final_no(ends) @ self.text_projection_no
        return projected


def _own(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().float().clone())


class SentenceNoTower(NoTower):
    """A copy of the MiniLM of the embedded encoder, ending in the same joint space; its last LayerNorm stays frozen.

    Args:
        encoder: an `EmbeddedEncoder`; it is not changed.
        context: tokens read at most.
    """

    def __init__(self, encoder: Any, context: int = 256) -> None:
        bert = deepcopy(encoder._text_tower).float()
        super().__init__(context, bert.config.hidden_size)
        bert.pooler = None  # the vector is a mean over tokens
        self.bert_no = bert
        self._tokenizer, self._context = encoder._tokenizer, context
        self._to_joint_space = encoder.to_joint_space
        self.to(encoder.device).eval().requires_grad_(True)
        # Three of its 384 gains are zero and the joint space is whitened: a trace there would drown everything else.
        bert.encoder.layer[-1].output.LayerNorm.requires_grad_(False)

    def tokenise(self, prompts: Sequence[str]) -> Tokens:
        """Padded; the attention mask hides the padding."""
        return dict(
            self._tokenizer(list(prompts), padding=True, truncation=True, max_length=self._context, return_tensors="pt")
        )

    def encode(self, tokens: Tokens, added: Float[Tensor, "#n l w"]) -> Float[Tensor, "n d"]:
        """See `NoTower.encode`; position and type embeddings are added inside."""
        inputs = self.bert_no.embeddings.word_embeddings(tokens["input_ids"]) + added
        states = self.bert_no(
            inputs_embeds=inputs, attention_mask=tokens["attention_mask"], token_type_ids=tokens["token_type_ids"]
        ).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        sentences = functional.normalize(((states * mask).sum(1) / mask.sum(1)).float(), dim=-1)
        out: Tensor = self._to_joint_space(sentences)
        return out
