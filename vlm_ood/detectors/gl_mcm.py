"""Global and local maximum concept matching: of the whole image and of its best matching patch.

Paper: Miyai et al., "GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection",
IJCV 2025, arXiv 2304.04521: S = S_MCM + lambda S_L, where S_L is the largest softmax over all classes and patches.
Their tau is our `temperature`, their lambda our `local_weight`.

The sum is of two softmax values, not of their logarithms. Like `mcm` we give the order of S in a form that doesn't
round neighbours together: -ln(P / (1 - P)) - ln(c - 1) of the weighted mean P = S / (1 + lambda). With s_G and s_L the
`mcm` scores of image and best patch, that is ln((1 - w) e^s_G + w e^s_L) with w = lambda S_L / (S_MCM + lambda S_L).
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.mcm import mcm
from vlm_ood.encoders.outputs import PATCHES, Outputs
from vlm_ood.errors import CapabilityError
from vlm_ood.types import ImageFeatures, Task

MAX_COSINES = 2**24  # held at once: 64 MiB, whatever the number of images


def gl_mcm(
    whole: Float[Tensor, " n"], local: Float[Tensor, " n"], classes: int, local_weight: float
) -> Float[Tensor, " n"]:
    """The `mcm` scores of the image and of its best patch as one, on the same scale; between the two."""
    log_odds = log_softmax_of(local, classes) - log_softmax_of(whole, classes) + math.log(local_weight)
    return torch.logaddexp(
        functional.logsigmoid(-log_odds) + whole,
        functional.logsigmoid(log_odds) + local,
    )


def log_softmax_of(score: Float[Tensor, " n"], classes: int) -> Float[Tensor, " n"]:
    """ln S, the logarithm of the largest softmax, from an `mcm` score over that many classes."""
    return functional.logsigmoid(-score - math.log(classes - 1))


def local_mcm(
    patches: Float[Tensor, "n p d"], classes: Float[Tensor, "c d"], temperature: float
) -> Float[Tensor, " n"]:
    """The `mcm` score of each image's best matching patch, a few images at a time; in (-inf, 0]."""
    chunk = max(1, MAX_COSINES // (patches.shape[1] * len(classes)))
    return torch.cat([mcm(part @ classes.T, temperature).amin(dim=1) for part in torch.split(patches, chunk)])


@register("gl_mcm")
@dataclass(frozen=True)
class GLMCM(Detector[Float[Tensor, "c d"]]):
    """Maximum concept matching of the whole image and of its best matching patch together.

    Args:
        temperature: divides raw cosines, no unit; the paper uses 1.
        local_weight: weight of the best patch against the whole image, no unit; the paper uses 1. Near 0 it is mcm;
            the patch alone is l_mcm.
    """

    paper: ClassVar[str] = (
        "Miyai et al., GL-MCM: Global and Local Maximum Concept Matching for Zero-Shot Out-of-Distribution Detection, "
        "IJCV 2025, arXiv:2304.04521"
    )
    outputs: ClassVar[Outputs] = PATCHES
    temperature: Annotated[float, Ge(1e-3), Le(100)] = 1.0
    local_weight: Annotated[float, Gt(0), Le(1000)] = 1.0

    def learn(self, task: Task) -> Float[Tensor, "c d"]:
        """The class embeddings."""
        return task.classes.embeddings

    def score(self, images: ImageFeatures, state: Float[Tensor, "c d"]) -> Float[Tensor, " n"]:
        """-ln(P / (1 - P)) - ln(c - 1) of the weighted mean P, in (-inf, 0]; higher is more OOD."""
        if images.patches is None:
            raise CapabilityError("gl_mcm reads patch features: encode with patches=True")
        whole = mcm(images.pooled @ state.T, self.temperature)
        local = local_mcm(images.patches, state, self.temperature)
        return gl_mcm(whole, local, len(state), self.local_weight)
