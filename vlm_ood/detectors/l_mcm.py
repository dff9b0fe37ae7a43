"""Local maximum concept matching: MCM of the best matching patch alone, without the whole image.

Paper: Miyai et al., "GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection",
IJCV 2025, arXiv 2304.04521, which calls it L-MCM: the largest softmax S_L over all classes and patches. Their tau is
our `temperature`. The maximum over more patches is larger, so thresholds change with the number of patches.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.gl_mcm import local_mcm
from vlm_ood.encoders.outputs import PATCHES, Outputs
from vlm_ood.errors import CapabilityError
from vlm_ood.types import ImageFeatures, Task


@register("l_mcm")
@dataclass(frozen=True)
class LMCM(Detector[Float[Tensor, "c d"]]):
    """Maximum concept matching of the best matching patch alone, without the whole image.

    Args:
        temperature: divides raw cosines, no unit; the paper uses 1.
    """

    paper: ClassVar[str] = (
        "Miyai et al., GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection, "
        "IJCV 2025, arXiv:2304.04521"
    )
    outputs: ClassVar[Outputs] = PATCHES
    temperature: Annotated[float, Ge(1e-3), Le(100)] = 1.0

    def learn(self, task: Task) -> Float[Tensor, "c d"]:
        """The class embeddings."""
        return task.classes.embeddings

    def score(self, images: ImageFeatures, state: Float[Tensor, "c d"]) -> Float[Tensor, " n"]:
        """-ln(S / (1 - S)) - ln(c - 1) of the largest softmax S over classes and patches, in (-inf, 0]."""
        if images.patches is None:
            raise CapabilityError("l_mcm reads patch features: encode with patches=True")
        return local_mcm(images.patches, state, self.temperature)
