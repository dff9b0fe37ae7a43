"""Largest cosine: how near the nearest class is.

Paper: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022, arXiv 1911.11132,
where it is the largest logit. With vectors of length 1 a logit is a cosine times a constant, which doesn't move the
order. It compares no classes with each other, so it works with one.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import CosineDetector, register


def max_cosine(cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Minus the largest cosine; in [-1, 1]."""
    return -cosine.amax(dim=-1)


@register("max_cosine")
@dataclass(frozen=True)
class MaxCosine(CosineDetector):
    """Largest cosine: how near the nearest class is; works with a single class."""

    paper: ClassVar[str] = (
        "Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022, arXiv:1911.11132"
    )
    min_classes: ClassVar[int] = 1

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """Minus the largest cosine, in [-1, 1]; higher is more OOD."""
        return max_cosine(cosine)
