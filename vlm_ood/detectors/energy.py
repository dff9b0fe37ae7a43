"""Free energy: how far an image is from all classes together, the nearest counting most.

Paper: Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020, arXiv 2010.03759:
E(x) = -T ln sum_i exp(f_i(x) / T). Their f_i(x) is our `cosine`, their T our 1 / `scale`, so that the score stays in
units of cosines. A large scale leaves minus the largest cosine.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import CosineDetector, register


def energy(cosine: Float[Tensor, "n c"], scale: float) -> Float[Tensor, " n"]:
    """-logsumexp(scale * cosine) / scale over the classes; in [-1 - ln(c) / scale, 1 - ln(c) / scale]."""
    return -(scale * cosine).logsumexp(dim=-1) / scale


@register("energy")
@dataclass(frozen=True)
class Energy(CosineDetector):
    """Free energy: how far an image is from all classes together, the nearest counting most.

    Works with a single class, where it is minus the cosine.

    Args:
        scale: multiplies cosines, no unit; 100 is what CLIP was trained to.
    """

    paper: ClassVar[str] = "Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, arXiv:2010.03759"
    min_classes: ClassVar[int] = 1
    scale: Annotated[float, Ge(1), Le(1000)] = 100.0

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """Minus the soft maximum of the cosines over the classes; higher is more OOD."""
        return energy(cosine, self.scale)
