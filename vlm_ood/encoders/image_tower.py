"""Image towers: one pass gives the pooled vector and, where the architecture allows it, patches and stages.

A patch feature is read along the value path: in the last block the matrix of attention is replaced by the identity,
so that each place keeps its own value; the residual, the block's MLP, the last layer norm and the projection stay.
This is what GL-MCM (Miyai et al., "GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot
Out-of-Distribution Detection", IJCV 2025, arXiv 2304.04521) and LoCoOp read; MaskCLIP (Zhou et al., ECCV 2022) began
it. It costs one more block, not one more pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vlm_ood.encoders.outputs import Capability, Outputs
from vlm_ood.types import ImageFeatures


class ImageTower(ABC):
    """Normalised pixels to features."""

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[Capability]:
        """Which of "patches" and "stages" the architecture gives."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of blocks, the highest stage; 0 without stages."""

    @abstractmethod
    def __call__(self, inputs: Float[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
        """Features from one forward pass; only what `capabilities` names is ever asked for."""


class Block(ABC):
    """One block of a vision transformer."""

    @abstractmethod
    def whole(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The block as it was trained."""

    @abstractmethod
    def value(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """The block with the identity for its matrix of attention."""


@dataclass(frozen=True, eq=False)
class VisionTransformer(ImageTower):
    """Any vision transformer, in five parts.

    Args:
        embed: pixels to tokens, positions added, normalised where the network does so before the first block.
        blocks: in order.
        pool: tokens after the last block to vectors in the joint space.
        project: one token after the last block to the joint space; None where no such map exists.
        grid: rows and columns of patches.
        prefix: tokens before the first patch, 1 for a class token.
    """

    embed: Callable[[Tensor], Tensor]
    blocks: Sequence[Block]
    pool: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor] | None
    grid: tuple[int, int]
    prefix: int

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Stages always, patches where a single token can be projected."""
        return frozenset({"stages"} if self.project is None else {"patches", "stages"})

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def __call__(self, inputs: Float[Tensor, "n 3 h w"], outputs: Outputs) -> ImageFeatures:
        """See `ImageTower`; stages leave the class token out."""
        tokens = entering = self.embed(inputs)
        kept = {}
        for number, block in enumerate(self.blocks, start=1):
            entering, tokens = tokens, block.whole(tokens)
            if number in outputs.stages:
                kept[number] = tokens[:, self.prefix :].float()
        pooled = self.pool(tokens)
        if not outputs.patches or self.project is None:
            return ImageFeatures(pooled, None, self.grid, kept)
        local = self.project(self.blocks[-1].value(entering[:, self.prefix :]))
        return ImageFeatures(pooled, local, self.grid, kept)
