"""Maximum concept matching: how far the best class stands above the average of the others.

Paper: Ming et al., "Delving into Out-of-Distribution Detection with Vision-Language Representations", NeurIPS 2022,
arXiv 2211.13445. Their tau is our `temperature`, their s_i(x) our `cosine`, their S the largest softmax over classes.

At tau = 1 the S of a thousand classes spans 0.00105 to 0.00120, and at tau = 0.01 it comes so near to 1 that fp32
rounds different images to one value. So the score is -ln(S / (1 - S)) - ln(c - 1), which falls as S grows and keeps
images apart at both ends. It is 0 when all classes are equally near, however many there are, where S is 1/c.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import CosineDetector, register


def mcm(cosine: Float[Tensor, "*n c"], temperature: float) -> Float[Tensor, "*n"]:
    """Logarithm of the mean of exp((cosine - best cosine) / temperature) over the classes but the best; in (-inf, 0].

    The largest softmax is S = 1 / (1 + (c - 1) exp(score)).
    """
    best = cosine.max(dim=-1, keepdim=True)
    others = ((cosine - best.values) / temperature).scatter(-1, best.indices, -math.inf)
    runner_up = others.amax(dim=-1, keepdim=True)
    mean = (others - runner_up).exp().sum(dim=-1) / (cosine.shape[-1] - 1)
    return mean.log() + runner_up.squeeze(-1)


@register("mcm")
@dataclass(frozen=True)
class MCM(CosineDetector):
    """Maximum concept matching: how far the best class stands above the average of the others.

    Args:
        temperature: divides raw cosines, no unit; the paper uses 1 with CLIP. The msp detector is the same score
            at CLIP's own scale, temperature 0.01.
    """

    paper: ClassVar[str] = (
        "Ming et al., Delving into Out-of-Distribution Detection with Vision-Language Representations, "
        "NeurIPS 2022, arXiv:2211.13445"
    )
    temperature: Annotated[float, Ge(1e-3), Le(100)] = 1.0

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """-ln(S / (1 - S)) - ln(c - 1) of the largest softmax S, in (-inf, 0]; higher is more OOD."""
        return mcm(cosine, self.temperature)
