"""Entropy of the softmax over classes.

Paper: Chan et al., "Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic
Segmentation", ICCV 2021, arXiv 2012.06575, who threshold the softmax entropy of each pixel; here it is the image's.
Minus the divergence from the uniform distribution, H - ln(c), has the same order.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vlm_ood.detectors.base import CosineDetector, register
from vlm_ood.detectors.mcm import mcm


def entropy(cosine: Float[Tensor, "n c"], scale: float) -> Float[Tensor, " n"]:
    """ln(H / ln c), H the entropy of softmax(scale * cosine) in nats; in (-inf, 0].

    Near 0 the logarithm keeps entropies apart that fp32 would round together; near ln c the divergence D = ln c - H,
    summed from terms that are never negative, does. Each form loses digits where the other is exact, so they switch
    halfway, at D = ln(c) / 2.
    """
    most = math.log(cosine.shape[-1])
    log_p = (scale * cosine).log_softmax(dim=-1)
    best = functional.softplus(mcm(cosine, 1 / scale) + math.log(cosine.shape[-1] - 1))  # -ln p where p rounds to 1
    surprise = (-log_p).scatter(-1, log_p.argmax(dim=-1, keepdim=True), best.unsqueeze(-1))
    log_entropy = (log_p + surprise.log()).logsumexp(dim=-1)
    ratio = log_p + most  # ln of p over the uniform 1 / c
    divergence = (ratio * ratio.exp() - ratio.expm1()).mean(dim=-1)
    return torch.where(divergence < most / 2, torch.log1p(-divergence / most), log_entropy - math.log(most))


@register("entropy")
@dataclass(frozen=True)
class Entropy(CosineDetector):
    """Entropy of the softmax over classes: how evenly the classifier spreads its probability.

    Args:
        scale: multiplies cosines, no unit; 100 is what CLIP was trained to.
    """

    paper: ClassVar[str] = (
        "Chan et al., Entropy Maximization and Meta Classification for Out-of-Distribution Detection in Semantic "
        "Segmentation, ICCV 2021, arXiv:2012.06575"
    )
    scale: Annotated[float, Ge(0.01), Le(1000)] = 100.0

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """The logarithm of the entropy relative to its maximum, in (-inf, 0]; higher is more OOD."""
        return entropy(cosine, self.scale)
