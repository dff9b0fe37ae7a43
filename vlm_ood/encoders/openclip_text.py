"""The text towers of open_clip's models, as this package runs them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlm_ood.encoders.openclip_sources import tokenizer_folder
from vlm_ood.encoders.text_tower import TextTower, causal_mask, row_at, unpadded
from vlm_ood.errors import CheckpointError


def text_tower(model: Any, config: Mapping[str, Any], folder: Path | None) -> TextTower:
    """The text half.

    Args:
        model: of open_clip.
        config: its `text_cfg`.
        folder: where the weights came from, which may hold the tokenizer too.
    """
    from open_clip.hf_model import HFTextEncoder

    tower, tokenizer = getattr(model, "text", model), Tokenizer(config, folder)
    return HuggingFaceText(tower, tokenizer) if isinstance(tower, HFTextEncoder) else OpenClipText(tower, tokenizer)


class Tokenizer:
    """A tokenizer of open_clip, loaded at the first prompt: images don't need it.

    Args:
        config: open_clip's `text_cfg`.
        folder: where the weights came from, which may hold the tokenizer too.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path | None) -> None:
        self.context = config.get("context_length", 77)
        self._config, self._folder = config, folder

    def __call__(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """Tokens of the full context."""
        tokens: Tensor = self._load(list(prompts))
        return tokens

    @cached_property
    def _load(self) -> Any:
        from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

        options = self._config.get("tokenizer_kwargs") or {}
        name = self._config.get("hf_tokenizer_name")
        if not name:
            return SimpleTokenizer(context_length=self.context, **options)
        folder = tokenizer_folder(name, self._folder)
        mode = self._config.get("tokenizer_mode")
        try:
            return HFTokenizer(str(folder), context_length=self.context, tokenizer_mode=mode, **options)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise CheckpointError(f"{folder} has no usable tokenizer ({error}): put that of {name} there") from error


class OpenClipText(TextTower):
    """open_clip's own transformer: CLIP's, causal and read at its end-of-text; SigLIP's, CoCa's and MobileCLIP's.

    The names of its parts are those of open_clip, hence of its checkpoints.

    Args:
        tower: an open_clip CLIP or TextTransformer.
        tokenizer: of the same model.
    """

    def __init__(self, tower: Any, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.transformer: nn.Module = tower.transformer
        self.token_embedding: nn.Module = tower.token_embedding
        self.positional_embedding: nn.Parameter = tower.positional_embedding
        self.ln_final: nn.Module = tower.ln_final
        self.text_projection: nn.Parameter | nn.Module | None = tower.text_projection
        self.cls_emb: nn.Parameter | None = getattr(tower, "cls_emb", None)
        self.context, self.width = tokenizer.context, tower.token_embedding.embedding_dim
        self.dim = _columns(tower.text_projection) or self.width
        self._tokenizer = tokenizer
        # A CLIP prefixes what a TextTransformer doesn't: one of the two names exists.
        self._pool: str = getattr(tower, "text_pool_type", None) or tower.pool_type
        self._end_token = int(getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None) or 0)
        self._causal = tower.attn_mask is not None
        self._padding, self._heads = getattr(tower, "pad_id", 0), getattr(tower, "heads", 1)

    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """Tokens of the full context."""
        return self._tokenizer(prompts)

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Up to the end-of-text where the tower is causal and read there; else the whole context."""
        if self._causal and self.cls_emb is None and self._pool in {"argmax", "eos"}:
            return self._place(tokens) + 1
        return torch.full((len(tokens),), tokens.shape[1])

    def embed(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        """Token embeddings; an appended class embedding (CoCa) is none of them."""
        embeddings: Tensor = self.token_embedding(tokens.to(self.device))
        return embeddings

    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Positions, blocks, the state at one place, its norm and projection."""
        states = embeddings.to(self.positional_embedding.dtype)
        if self.cls_emb is not None:
            states = torch.cat([states, self.cls_emb.expand(len(states), 1, -1)], dim=1)  # (n, l + 1, w)
        states = states + self.positional_embedding[: states.shape[1]]
        states = self.transformer(states, attn_mask=self._mask(tokens.to(states.device), states))
        read: Tensor = self.ln_final(row_at(states, self._place(tokens)))
        if isinstance(self.text_projection, nn.Module):
            read = self.text_projection(read)
        elif self.text_projection is not None:
            read = read @ self.text_projection
        return read.float()

    def _place(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Where the state of each prompt is read."""
        if self.cls_emb is not None:
            return torch.full((len(tokens),), tokens.shape[1])
        if self._pool == "argmax":  # in CLIP's vocabulary the end-of-text is the largest token
            return tokens.argmax(dim=-1)
        if self._pool == "eos":
            return torch.eq(tokens, self._end_token).int().argmax(dim=-1)
        return torch.full((len(tokens),), 0 if self._pool == "first" else tokens.shape[1] - 1)

    def _mask(self, tokens: Int[Tensor, "n l"], states: Float[Tensor, "n t w"]) -> Float[Tensor, "..."] | None:
        """Added to the attention logits: (t, t), or with a class embedding (n * heads, t, t), which hides padding."""
        length = states.shape[1]
        causal = causal_mask(length, states) if self._causal else None
        if self.cls_emb is None:
            return causal
        # One place too far to the right, as in open_clip: CoCa's released weights were trained that way.
        visible = torch.cat([tokens.new_ones(len(tokens), 1), tokens != self._padding], dim=1).bool()
        hidden = torch.zeros_like(visible, dtype=states.dtype).masked_fill(~visible, -torch.inf)
        hidden = hidden[:, None].expand(-1, length, -1).repeat_interleave(self._heads, dim=0)
        return hidden if causal is None else hidden + causal


def _columns(projection: nn.Parameter | nn.Linear | None) -> int | None:
    if projection is None:
        return None
    return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]


class HuggingFaceText(TextTower):
    """A transformer of another library inside an open_clip model: RoBERTa, XLM-RoBERTa, mT5, NLLB's encoder.

    Args:
        tower: an open_clip HFTextEncoder.
        tokenizer: of the same model.
    """

    def __init__(self, tower: Any, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.transformer, self.pooler, self.proj = tower.transformer, tower.pooler, tower.proj
        self.context, self.dim = tokenizer.context, tower.output_dim
        self.width = tower.transformer.get_input_embeddings().embedding_dim
        self._tokenizer, self._padding = tokenizer, tower.config.pad_token_id

    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """Tokens of the full context."""
        return self._tokenizer(prompts)

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Up to the padding, which an attention mask hides."""
        return unpadded(tokens, self._padding)

    def embed(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        """Token embeddings, scaled where the model scales them."""
        embeddings: Tensor = self.transformer.get_input_embeddings()(tokens.to(self.device))
        return embeddings

    def encode_embeddings(self, embeddings: Float[Tensor, "n l w"], tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Positions are counted from the first token, as they are where no prompt starts with padding."""
        mask = (tokens != self._padding).long().to(embeddings.device)
        output = self.transformer(inputs_embeds=embeddings.to(self.transformer.dtype), attention_mask=mask)
        vectors: Tensor = self.proj(self.pooler(output, mask))
        return vectors.float()
