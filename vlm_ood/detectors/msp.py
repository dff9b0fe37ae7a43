"""Maximum softmax probability: how sure the zero-shot classifier is of its best class.

Papers: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
Networks", ICLR 2017, arXiv 1610.02136, for the score; Fort et al., "Exploring the Limits of Out-of-Distribution
Detection", NeurIPS 2021, arXiv 2106.03004, for CLIP as the classifier. Its logits are scale * cosine.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import CosineDetector, register
from vlm_ood.detectors.mcm import mcm


def msp(cosine: Float[Tensor, "n c"], scale: float) -> Float[Tensor, " n"]:
    """ln((1 - P) / P) - ln(c - 1) of the largest softmax P over scale * cosine; in (-inf, 0].

    It is `mcm` at temperature 1 / scale: the logarithm of the odds keeps images apart where P rounds to 1.
    """
    return mcm(cosine, 1 / scale)


@register("msp")
@dataclass(frozen=True)
class MSP(CosineDetector):
    """Maximum softmax probability: how sure the zero-shot classifier is of its best class.

    Args:
        scale: multiplies cosines, no unit; 100 is what CLIP was trained to.
    """

    paper: ClassVar[str] = (
        "Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural "
        "Networks, ICLR 2017, arXiv:1610.02136"
    )
    scale: Annotated[float, Ge(0.01), Le(1000)] = 100.0

    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """ln((1 - P) / P) - ln(c - 1) of the largest probability P, in (-inf, 0]; higher is more OOD."""
        return msp(cosine, self.scale)
