"""The image towers of open_clip's models, as this package runs them."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vlm_ood.encoders.image_tower import Block, ImageTower, VisionTransformer
from vlm_ood.encoders.outputs import Capability, Outputs
from vlm_ood.encoders.positions import Positions
from vlm_ood.types import ImageFeatures


def image_tower(model: Any) -> ImageTower:
    """The image half: CLIP's transformers give everything, its ResNets give patches, others pooled vectors only."""
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
        embed=lambda inputs: _embed(visual, inputs),
        positions=Positions(visual.positional_embedding, visual.grid_size, prefix=1),
        enter=visual.ln_pre,
        blocks=[ResidualBlock(block) for block in blocks],
        pool=lambda tokens: visual._pool(tokens)[0] @ visual.proj,
        project=None if visual.attn_pool is not None else lambda tokens: visual.ln_post(tokens) @ visual.proj,
        patch=visual.patch_size,
    )


def _embed(visual: Any, inputs: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n t width"]:
    """The class token and one token per patch; `visual._embeds` up to the positions."""
    patches = visual.conv1(inputs).flatten(2).transpose(1, 2)  # (n, width, h, w) to (n, p, width)
    first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    return torch.cat([first, patches], dim=1)


@dataclass(frozen=True, eq=False)
class ResidualBlock(Block):
    """A block of CLIP's vision transformer."""

    block: Any

    @property
    def heads(self) -> int:
        """Heads of the attention."""
        heads: int = self.block.attn.num_heads
        return heads

    def whole(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The block as it was trained."""
        result: Tensor = self.block(tokens)
        return result

    def values(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The values; torch keeps the projections of queries, keys and values as one matrix, in this order."""
        attention = self.block.attn
        weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
        return functional.linear(self.block.ln_1(tokens), weight, bias)

    def project(self, attended: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The output projection, with the layer scale of models that have one."""
        result: Tensor = self.block.ls_1(self.block.attn.out_proj(attended))
        return result

    def feed_forward(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The MLP with its residual."""
        result: Tensor = tokens + self.block.ls_2(self.block.mlp(self.block.ln_2(tokens)))
        return result


@dataclass(frozen=True, eq=False)
class ResNet(ImageTower):
    """CLIP's ResNets: a patch is a place of the last map, through value and output projection of the attention pool.

    As in GL-MCM the positional embedding is left out, since a value doesn't depend on its place.
    """

    visual: Any
    capabilities: frozenset[Capability] = frozenset({"patches"})

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

    def __call__(self, inputs: Float[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
        """Features from one forward pass."""
        output = self.visual(inputs)
        return ImageFeatures(output[0] if isinstance(output, tuple) else output)
