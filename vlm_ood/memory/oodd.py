"""OODD: an image that resembles the most OOD-like images seen so far is more OOD.

    score(x) = S(x) + weight * c_(k)(x)

S is the fitted detector's score, c_(k)(x) the k-th largest cosine of x to the images in the memory, which holds the
`capacity` images with the largest S.

Paper: Yang et al., "OODD: Test-time Out-of-Distribution Detection with Dynamic Dictionary", CVPR 2025,
arXiv 2503.10468. Their code for CLIP has k = 5, a weight of 1 and a queue of 2048 for streams of some 60 000 images.
On streams of 1300 to 6000 CLIP ViT-B/32 vectors a weight of 1/4 and 256 images were better (docs/methods.md).
Where it adds a batch to the queue before it scores the batch, we score first, so that the images of a batch don't
depend on each other. The paper fills the first queue with outliers made from training images; zero-shot there are none:
until k images are held, c_(k)(x) is the mean cosine of x to the ordinary photographs of the task's background, and 0
without a background.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors import FittedDetector
from vlm_ood.detectors.neighbours import largest_products
from vlm_ood.memory.base import Capacity, MemoryMethod, register
from vlm_ood.memory.entries import Entries
from vlm_ood.types import ImageFeatures


@register("oodd")
@dataclass(frozen=True)
class OODD(MemoryMethod):
    """Resemblance to the most OOD-like images seen so far, over any detector.

    Args:
        capacity: images in the memory at most. Until it is full it takes ID images too: keep it well below the number
            of OOD images that are expected.
        k: which of the nearest images in the memory counts, the first being the nearest.
        weight: of the cosine, for detectors whose scores are in units of cosines, such as `energy`; the paper has 1.
    """

    paper: ClassVar[str] = (
        "Yang et al., OODD: Test-time Out-of-Distribution Detection with Dynamic Dictionary, CVPR 2025, "
        "arXiv:2503.10468"
    )

    capacity: Capacity = 256
    k: Annotated[int, Ge(1), Le(1000)] = 5
    weight: Annotated[float, Gt(0), Le(1000)] = 0.25

    def labels(self, fitted: FittedDetector[Any]) -> int:
        """One: the queue is not divided."""
        return 1

    def examine(
        self, fitted: FittedDetector[Any], images: ImageFeatures, memory: Entries
    ) -> tuple[Float[Tensor, " n"], Entries]:
        """The equation; every image is a candidate, and costs less the larger its score S."""
        plain = fitted.score(images)
        pooled = images.pooled.to(plain.device)
        labels = torch.zeros(len(plain), dtype=torch.long, device=plain.device)
        return plain + self.weight * self._likeness(fitted, pooled, memory), Entries(pooled, -plain, labels)

    def _likeness(
        self, fitted: FittedDetector[Any], pooled: Float[Tensor, "n d"], memory: Entries
    ) -> Float[Tensor, " n"]:
        if len(memory) >= self.k:
            return largest_products(pooled, memory.vectors, self.k)[:, -1]
        ordinary = fitted.task.ordinary
        return pooled.new_zeros(len(pooled)) if ordinary is None else pooled @ ordinary.images.to(pooled.device)
