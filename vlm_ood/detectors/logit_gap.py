"""Logit gap: how far the nearest class is ahead of those that come next.

Paper: Liang et al., "Revisiting Logit Distributions for Reliable Out-of-Distribution Detection", NeurIPS 2025,
arXiv 2510.20134: the mean of z'_1 - z'_j over j = 2..N, with z' the sorted logits. Their z' is our sorted `cosine`,
their N our `keep` times the c classes. N = 2 is the margin; N = c is what MCM tends to at a high temperature.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import CosineDetector, register


def logit_gap(cosine: Float[Tensor, "n c"], nearest: int) -> Float[Tensor, " n"]:
    """Mean of the second to N-th largest cosines minus the largest, N = `nearest`; in [-2, 0]."""
    best = cosine.topk(nearest, dim=-1).values
    return (best[:, 1:] - best[:, :1]).mean(dim=-1)


@register("logit_gap")
@dataclass(frozen=True)
class LogitGap(CosineDetector):
    """Logit gap: how far the nearest class is ahead of those that come next, by mean cosine.

    Args:
        keep: share of the classes that are compared, the nearest ones, never fewer than two; the paper uses 0.2
            where it doesn't tune it on simulated outliers.
    """

    paper: ClassVar[str] = (
        "Liang et al., Revisiting Logit Distributions for Reliable Out-of-Distribution Detection, NeurIPS 2025, "
        "arXiv:2510.20134"
    )
    keep: Annotated[float, Gt(0), Le(1)] = 0.2

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """The mean of the next cosines minus the largest, in [-2, 0]; higher is more OOD."""
        return logit_gap(cosine, max(2, math.ceil(self.keep * cosine.shape[-1])))
