"""Image towers: one pass gives pooled vectors and, where the architecture allows it, patches, stages and windows.

Three ways to compute the tokens that patches and stages are read from:

- "value": in the last block the matrix of attention is replaced by the identity, so that each place keeps its own
  value; the residual, the block's MLP, the last layer norm and the projection stay. This is what GL-MCM (Miyai et al.,
  "GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection", IJCV 2025, arXiv
  2304.04521) and LoCoOp read; MaskCLIP (Zhou et al., ECCV 2022) began it.
- "softmax": the blocks as they were trained.
- "vv": a second stream v beside the stream x that pooled vectors come from, as in AnomalyCLIP (Zhou et al.,
  "AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection", ICLR 2024, arXiv 2310.18961). Up to
  block `vv_from` it is x; each block l from there on adds A_vv(LN1 x_{l-1}), softmax(V V^T / sqrt(d)) V through the
  block's own output projection, and no MLP. It reads x, never itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vlm_ood.encoders.outputs import Capability, Outputs
from vlm_ood.encoders.positions import Positions
from vlm_ood.encoders.windows import encode_windows
from vlm_ood.types import ImageFeatures


class ImageTower(ABC):
    """Normalised pixels to features."""

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[Capability]:
        """What the architecture gives beyond pooled features."""

    def refusal(self, outputs: Outputs) -> str | None:
        """What is wrong with the numbers in `outputs`, such as a block that isn't there; None when nothing is."""
        return None

    @abstractmethod
    def __call__(self, inputs: Float[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
        """Features from one forward pass; only what `capabilities` and `refusal` allow is ever asked for."""


class Block(ABC):
    """One block of a vision transformer: x + attention(LN1 x), then x + MLP(LN2 x)."""

    @property
    @abstractmethod
    def heads(self) -> int:
        """Heads of the attention."""

    @abstractmethod
    def whole(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The block as it was trained."""

    @abstractmethod
    def values(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The values of the attention, heads side by side."""

    @abstractmethod
    def project(self, attended: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The output projection of the attention, up to the residual."""

    @abstractmethod
    def feed_forward(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The second half of the block, with its residual."""

    def value(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The block with the identity for its matrix of attention."""
        return self.feed_forward(tokens + self.project(self.values(tokens)))

    def value_value(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """What value-value attention adds to a token, without residual and MLP."""
        n, t, width = tokens.shape
        values = self.values(tokens).view(n, t, self.heads, width // self.heads).transpose(1, 2)  # (n, heads, t, _)
        attended = functional.scaled_dot_product_attention(values, values, values)
        return self.project(attended.transpose(1, 2).flatten(2))


@dataclass(frozen=True, eq=False)
class VisionTransformer(ImageTower):
    """Any vision transformer, in six parts.

    Args:
        embed: pixels to tokens (n, prefix + p, width), positions not yet added.
        positions: of those tokens.
        enter: from tokens with positions to what the first block reads: CLIP's first layer norm.
        blocks: in order.
        pool: tokens after the last block to vectors in the joint space.
        project: one token after the last block to the joint space; None where no such map exists.
        patch: rows and columns of a patch, in pixels.
    """

    embed: Callable[[Tensor], Tensor]
    positions: Positions
    enter: Callable[[Tensor], Tensor]
    blocks: Sequence[Block]
    pool: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor] | None
    patch: tuple[int, int]

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything, but patches only where a single token can be projected."""
        always: frozenset[Capability] = frozenset({"stages", "windows", "vv", "sizes"})
        return always if self.project is None else always | {"patches"}

    def refusal(self, outputs: Outputs) -> str | None:
        """Blocks that aren't there, a size that isn't made of whole patches, windows larger than the grid."""
        asked = [*outputs.stages, *([outputs.vv_from] if outputs.attention == "vv" else [])]
        outside = [number for number in asked if number > len(self.blocks)]
        if outside:
            return f"has the blocks 1 to {len(self.blocks)}, not {outside}"
        if outputs.size is not None and any(side % unit for side, unit in zip(outputs.size, self.patch, strict=True)):
            return f"takes sizes in multiples of {self.patch[0]}x{self.patch[1]} pixels, not {outputs.size}"
        grid = self.positions.grid if outputs.size is None else self._grid(*outputs.size)
        wide = [side for side in outputs.windows if side > min(grid)]
        return f"has a grid of {grid[0]}x{grid[1]} patches, too small for windows of {wide}" if wide else None

    def __call__(self, inputs: Float[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
        """Features from one forward pass; stages leave the class token out."""
        grid, first = self._grid(*inputs.shape[2:]), self.positions.prefix
        embedded = self.embed(inputs)
        embedded = embedded + self.positions(grid).to(embedded.dtype)
        tokens = entering = local = self.enter(embedded)
        stages = {}
        for number, block in enumerate(self.blocks, start=1):
            entering, tokens = tokens, block.whole(tokens)
            second = outputs.attention == "vv" and number >= outputs.vv_from
            local = local + block.value_value(entering) if second else tokens
            if number in outputs.stages:
                stages[number] = local[:, first:].float()
        patches = None
        if outputs.patches and self.project is not None:
            value = outputs.attention == "value"
            patches = self.project(self.blocks[-1].value(entering[:, first:]) if value else local[:, first:])
        windows = {side: encode_windows(self._pooled, embedded, grid, side, first) for side in outputs.windows}
        return ImageFeatures(self.pool(tokens), patches, grid if outputs.local else None, stages, windows)

    def _pooled(self, embedded: Float[Tensor, "n t w"]) -> Float[Tensor, "n d"]:
        """From any tokens with their positions through the whole transformer."""
        tokens = self.enter(embedded)
        for block in self.blocks:
            tokens = block.whole(tokens)
        return self.pool(tokens)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.patch[0], width // self.patch[1]
