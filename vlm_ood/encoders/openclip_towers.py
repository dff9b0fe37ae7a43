"""The towers of open_clip's models, as this package runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vlm_ood.encoders.hub import CONFIGS, hub_folder
from vlm_ood.encoders.image_tower import Block, ImageTower, VisionTransformer
from vlm_ood.encoders.outputs import Capability, Outputs
from vlm_ood.encoders.text_tower import TextTower
from vlm_ood.types import ImageFeatures


def image_tower(model: Any) -> ImageTower:
    """The image half: CLIP's transformers with patches and stages, its ResNets with patches, others pooled only."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import ResidualAttentionBlock
    from open_clip.transformer import VisionTransformer as OpenClipViT

    visual = model.visual
    if isinstance(visual, ModifiedResNet):
        return ResNet(visual)
    if not isinstance(visual, OpenClipViT):
        return PooledTower(visual)
    blocks = visual.transformer.resblocks
    if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        return PooledTower(visual)
    return VisionTransformer(
        embed=visual._embeds,
        blocks=[ResidualBlock(block) for block in blocks],
        pool=lambda tokens: visual._pool(tokens)[0] @ visual.proj,
        project=None if visual.attn_pool is not None else lambda tokens: visual.ln_post(tokens) @ visual.proj,
        grid=visual.grid_size,
        prefix=1,
    )


@dataclass(frozen=True, eq=False)
class ResidualBlock(Block):
    """A block of CLIP's vision transformer."""

    block: Any

    def whole(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """See `Block.whole`."""
        result: Tensor = self.block(tokens)
        return result

    def value(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """See `Block.value`: of the joint projection of queries, keys and values only the last third is used."""
        block, attention = self.block, self.block.attn
        weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
        values = functional.linear(block.ln_1(tokens), weight, bias)
        tokens = tokens + block.ls_1(attention.out_proj(values))
        result: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
        return result


@dataclass(frozen=True, eq=False)
class ResNet(ImageTower):
    """CLIP's ResNets: a patch is a place of the last map, through value and output projection of the attention pool.

    As in GL-MCM the positional embedding is left out, since a value doesn't depend on its place.
    """

    visual: Any
    capabilities: frozenset[Capability] = frozenset({"patches"})
    depth: int = 0

    def __call__(self, inputs: Float[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
        """Features from one forward pass."""
        visual, pool = self.visual, self.visual.attnpool
        places = visual.stem(inputs)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            places = layer(places)
        pooled = pool(places)
        if not outputs.patches:
            return ImageFeatures(pooled)
        values = pool.c_proj(pool.v_proj(places.flatten(2).transpose(1, 2)))
        return ImageFeatures(pooled, values, (places.shape[2], places.shape[3]))


@dataclass(frozen=True, eq=False)
class PooledTower(ImageTower):
    """Everything else (ConvNeXt, SigLIP's and EVA's transformers from timm, ...): pooled features only."""

    visual: nn.Module
    capabilities: frozenset[Capability] = frozenset()
    depth: int = 0

    def __call__(self, inputs: Float[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
        """Features from one forward pass."""
        output = self.visual(inputs)
        return ImageFeatures(output[0] if isinstance(output, tuple) else output)


def text_tower(model: Any, config: Mapping[str, Any], folder: Path | None) -> TextTower:
    """The text half.

    Args:
        model: of open_clip.
        config: its `text_cfg`.
        folder: where the weights came from, which may hold the tokenizer too.
    """
    tower = getattr(model, "text", model)
    causal = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
    pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)
    if causal and pool in {"argmax", "eos"}:
        return CausalText(tower, config, folder)
    return FullText(tower, config, folder)


@dataclass(frozen=True, eq=False)
class OpenClipText(TextTower):
    """A text tower of open_clip and its tokenizer, which is loaded at the first prompt: images don't need it."""

    tower: Any
    config: Mapping[str, Any]
    folder: Path | None

    @cached_property
    def _tokenizer(self) -> Any:
        from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

        length = self.config.get("context_length", 77)
        options = self.config.get("tokenizer_kwargs") or {}
        name = self.config.get("hf_tokenizer_name")
        if not name:
            return SimpleTokenizer(context_length=length, **options)
        mode = self.config.get("tokenizer_mode")
        return HFTokenizer(str(self._tokenizer_folder(name)), context_length=length, tokenizer_mode=mode, **options)

    def _tokenizer_folder(self, name: str) -> Path:
        if self.folder is not None and (self.folder / "tokenizer_config.json").is_file():
            return self.folder
        return hub_folder(name, CONFIGS, "no network: put its tokenizer files beside the weights")

    def tokenise(self, prompts: Sequence[str]) -> Int[Tensor, "n l"]:
        """See `TextTower.tokenise`."""
        tokens: Tensor = self._tokenizer(list(prompts))
        return tokens


class FullText(OpenClipText):
    """A tower that sees every token: SigLIP, CoCa, RoBERTa, ..."""

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """See `TextTower.lengths`: always the whole context."""
        return torch.full((len(tokens),), tokens.shape[1])

    def __call__(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """See `TextTower`."""
        run = getattr(self.tower, "encode_text", self.tower)
        output = run(tokens)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


class CausalText(OpenClipText):
    """CLIP's own text tower."""

    def lengths(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """See `TextTower.lengths`."""
        return self._end(tokens) + 1

    def __call__(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """See `TextTower`."""
        tower, length = self.tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        states = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        states = tower.transformer(states, attn_mask=tower.attn_mask[:length, :length])
        ends = tower.ln_final(states[torch.arange(len(tokens), device=tokens.device), self._end(tokens)])
        projection = tower.text_projection
        if projection is None:
            projected: Tensor = ends
        else:
            projected = projection(ends) if isinstance(projection, nn.Module) else ends @ projection
        return projected

    def _end(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Where the end-of-text is: the largest token in CLIP's vocabulary, a token of its own in others."""
        if self._pool == "argmax":
            return tokens.argmax(dim=-1)
        return (tokens == self._eos).int().argmax(dim=-1)

    @property
    def _pool(self) -> str:
        pool: str = getattr(self.tower, "text_pool_type", None) or self.tower.pool_type
        return pool

    @property
    def _eos(self) -> int:
        eos: int = getattr(self.tower, "text_eos_id", None) or self.tower.eos_id
        return eos
