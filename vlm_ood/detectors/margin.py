"""Margin: how far the nearest class is ahead of the second.

Paper: Scheffer et al., "Active Hidden Markov Models for Information Extraction", IDA 2001, who ask for labels where the
two best classes lie closest. We take their cosines: scale * (first - second) is the logarithm of the odds between the
two at any scale, so no temperature is needed.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import CosineDetector, register


def margin(cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Second largest minus largest cosine; in [-2, 0]."""
    first, second = cosine.topk(2, dim=-1).values.unbind(dim=-1)
    return second - first


@register("margin")
@dataclass(frozen=True)
class Margin(CosineDetector):
    """Margin: how far the nearest class is ahead of the second nearest, by cosine."""

    paper: ClassVar[str] = "Scheffer et al., Active Hidden Markov Models for Information Extraction, IDA 2001"

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """The second largest cosine minus the largest, in [-2, 0]; higher is more OOD."""
        return margin(cosine)
