"""Generalised entropy of the softmax over classes.

Paper: Liu et al., "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", CVPR 2023:
G(p) = sum_j p_j^gamma (1 - p_j)^gamma over the M most probable classes. Their gamma and M are our `gamma` and `top`,
p the softmax of scale * cosine. gamma = 1 over all classes is 1 - sum_j p_j^2, the Gini index.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vlm_ood.detectors.base import CosineDetector, register
from vlm_ood.detectors.mcm import mcm


def gen(cosine: Float[Tensor, "n c"], scale: float, gamma: float, top: int) -> Float[Tensor, " n"]:
    """Sum of (p (1 - p)) ** gamma over the `top` most probable classes; in (0, top / 4 ** gamma].

    1 - p of the best class comes from its odds: one minus a p that rounds to 1 would be 0.
    """
    c = cosine.shape[-1]
    log_p = (scale * cosine).log_softmax(dim=-1).topk(min(top, c), dim=-1).values
    best = functional.logsigmoid(mcm(cosine, 1 / scale) + math.log(c - 1)).unsqueeze(-1)
    others = torch.log1p(-log_p[:, 1:].exp())
    return (gamma * (log_p + torch.cat([best, others], dim=-1))).exp().sum(dim=-1)


@register("gen")
@dataclass(frozen=True)
class GEN(CosineDetector):
    """Generalised entropy of the softmax over classes, in which small probabilities count too.

    Args:
        scale: multiplies cosines, no unit; 100 is what CLIP was trained to.
        gamma: exponent, no unit; the smaller, the more the improbable classes count. The paper uses 0.1.
        top: number of most probable classes that are summed; the paper uses 100 of ImageNet's 1000. All of them when
            there are fewer.
    """

    paper: ClassVar[str] = (
        "Liu et al., GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection, CVPR 2023"
    )
    scale: Annotated[float, Ge(0.01), Le(1000)] = 100.0
    gamma: Annotated[float, Gt(0), Le(1)] = 0.1
    top: Annotated[int, Ge(1)] = 100

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """The sum over the `top` most probable classes, in (0, top / 4 ** gamma]; higher is more OOD."""
        return gen(cosine, self.scale, self.gamma, self.top)
