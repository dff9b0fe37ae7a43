"""NECO: how much of an image lies in the principal space of labelled images, times its largest cosine to a class.

    score(x) = -|P x| / |x| max_k c_k

P projects on the principal space of `residual`, c_k is the cosine to class k, and |x| is 1.

Paper: Ammar et al., "NECO: NEural Collapse Based Out-of-distribution detection", ICLR 2024, arXiv 2310.06823, equation
6, with their product with the largest logit, which they use for all networks but ResNets. In a network that was trained
until its classes collapsed to points, known images lie in the space of these points and others are orthogonal to it.

- No network was trained on these classes, and CLIP's don't collapse. The space is that of all images, not of class
  means, as in the paper; it holds a share of 0.9 of their squares in place of a fixed dimension, since few images are
  fewer than the paper's dimension.
- Their code moves the mean to zero and divides each coordinate by its standard deviation first, for most networks. With
  the mean at zero the AUROC is the same here; few images don't tell the deviations, which cost 0.01 of it (mean over
  11 comparisons with two images per class, CLIP ViT-B/32).
- With CLIP the largest cosine is positive; with `embedded` it need not be, and of a negative one the product would rise
  with |P x|. Then |P x| is replaced by 2 - |P x|, so that an image outside the space always scores higher.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Lt
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.residual import principal_space
from vlm_ood.types import ImageFeatures, Task


@dataclass(frozen=True, eq=False)
class Space:
    """What the method learns.

    Args:
        classes: (c, d).
        axes: (k, d) of the principal space.
    """

    classes: Float[Tensor, "c d"]
    axes: Float[Tensor, "k d"]


@register("neco")
@dataclass(frozen=True)
class NECO(Detector[Space]):
    """NECO: share of an image in the principal space of labelled images, by its largest cosine.

    Works with a single class, and with two labelled images or more.

    Args:
        share: share of the sum of squares of the labelled images that the principal space holds, in (0, 1).
    """

    paper: ClassVar[str] = (
        "Ammar et al., NECO: NEural Collapse Based Out-of-distribution detection, ICLR 2024, arXiv:2310.06823"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_images: ClassVar[int] = 2
    min_classes: ClassVar[int] = 1

    share: Annotated[float, Gt(0), Lt(1)] = 0.9

    def learn(self, task: Task) -> Space:
        """The classes and the axes of the principal space."""
        return Space(task.classes.embeddings, principal_space(task, self.share))

    def score(self, images: ImageFeatures, state: Space) -> Float[Tensor, " n"]:
        """Minus the product, in [-1, 2]; higher is more OOD."""
        inside = (images.pooled @ state.axes.T).square().sum(dim=1).sqrt()
        largest = (images.pooled @ state.classes.T).amax(dim=1)
        return -largest * torch.where(largest > 0, inside, 2 - inside)
