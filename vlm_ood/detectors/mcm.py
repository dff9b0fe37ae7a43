"""Maximum concept matching: does one class explain the image better than the average class?

Paper: Ming et al., "Delving into Out-of-Distribution Detection with Vision-Language Representations", NeurIPS 2022,
arXiv 2211.13445. Their tau is our `temperature`, their s_i(x) our `cosine`. We negate and take the logarithm, which
keeps the order: at tau = 1 the softmax of a thousand classes spans 0.00105 to 0.00120, where half precision would tie.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import CosineDetector, register


def mcm(cosine: Float[Tensor, "n c"], temperature: float) -> Float[Tensor, " n"]:
    """Minus the logarithm of the largest softmax over classes of cosine / temperature; in (0, ln c]."""
    logits = cosine / temperature
    return logits.logsumexp(dim=-1) - logits.amax(dim=-1)


@register("mcm")
@dataclass(frozen=True)
class MCM(CosineDetector):
    """Maximum concept matching.

    Args:
        temperature: divides raw cosines, no unit; the paper uses 1 with CLIP. The msp detector is the same score
            at CLIP's own scale, temperature 0.01.
    """

    paper: ClassVar[str] = (
        "Ming et al., Delving into Out-of-Distribution Detection with Vision-Language Representations, "
        "NeurIPS 2022, arXiv:2211.13445"
    )
    temperature: Annotated[float, Gt(0)] = 1.0

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """See `mcm`."""
        return mcm(cosine, self.temperature)
