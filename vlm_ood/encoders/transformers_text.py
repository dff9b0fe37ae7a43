"""The text towers of transformers' CLIP and SigLIP, as this package runs them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlm_ood.encoders.text_tower import TextTower, causal_mask, row_at


class SiglipText(TextTower):
    """SigLIP's text tower: not causal, read at the last place of a full context.

    Args:
        model: transformers' SiglipModel.
        tokenizer: of the same checkpoint.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        text, config = model.text_model, model.config.text_config
        self.embeddings, self.encoder, self.final_layer_norm = text.embeddings, text.encoder, text.final_layer_norm
        self.projection: nn.Linear = self._projection(model)
        self.context, self.width = config.max_position_embeddings, config.hidden_size
        self.dim = self.projection.out_features
        self._tokenizer, self._end_token = tokenizer, config.eos_token_id

    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """Tokens of the full context."""
        batch = self._tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=self.context, return_tensors="pt"
        )
        tokens: Tensor = batch["input_ids"]
        return tokens

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """The whole context, padding included: SigLIP was trained to see it."""
        return torch.full((len(tokens),), tokens.shape[1])

    def embed(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        """Token embeddings without positions."""
        embeddings: Tensor = self.embeddings.token_embedding(tokens.to(self.device))
        return embeddings

    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Positions, blocks, the state at the last place that decides, its norm and projection."""
        states = self.embeddings(inputs_embeds=embeddings.to(self.projection.weight.dtype))
        states = self.encoder(inputs_embeds=states, attention_mask=self._mask(states)).last_hidden_state
        read = self.final_layer_norm(row_at(states, self.lengths(tokens) - 1))
        vectors: Tensor = self.projection(read)
        return vectors.float()

    def _projection(self, model: Any) -> nn.Linear:
        head: nn.Linear = model.text_model.head
        return head

    def _mask(self, states: Float[Tensor, "n l w"]) -> Float[Tensor, "1 1 l l"] | None:
        """Added to the attention logits."""
        return None


class ClipText(SiglipText):
    """CLIP's text tower: causal, read at the end-of-text."""

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Up to the end-of-text; checkpoints from before transformers 4.31 name 2 where they mean the largest token."""
        ends = tokens if self._end_token == 2 else (tokens == self._end_token).int()
        return ends.argmax(dim=-1) + 1

    def _projection(self, model: Any) -> nn.Linear:
        projection: nn.Linear = model.text_projection
        return projection

    def _mask(self, states: Float[Tensor, "n l w"]) -> Float[Tensor, "1 1 l l"] | None:
        return causal_mask(states.shape[1], states)[None, None]
