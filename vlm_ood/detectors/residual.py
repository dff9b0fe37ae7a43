"""Residual: the part of an image that no mixture of the principal axes of labelled images gives.

    score(x) = |x - P x|

P projects on the space of the first principal axes of the labelled images around zero: those that hold `share` of the
sum of squares, at most one fewer than there are.

Paper: Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022, arXiv 2203.10807, section 3.2:
their "Residual", the norm of x's projection on the complement of the principal space, also the first half of `vim`.

- Their origin is o = -(W^T)^+ b, with W and b the last layer of a classifier. The vectors of the classes are the last
  layer here and there is no b, so o is zero, and the first axis is close to the mean of the images.
- Their space has a fixed dimension (512 of 768, 1000 of 2048), chosen for a million images. Here images may be fewer
  than that, so the dimension follows from them. A share of 0.9 was good on CLIP ViT-B/32 vectors with one to three
  images of each of 10 to 1000 classes.

Classes are not read; labels neither, beyond which classes there are.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt, Lt
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.types import ImageFeatures, Task


def principal_space(task: Task, share: float) -> Float[Tensor, "k d"]:
    """`SupportStatistics.principal`, in fp32 on the task's device."""
    return statistics_of(task).principal(share).to(task.classes.embeddings)


def residual(images: Float[Tensor, "n d"], axes: Float[Tensor, "k d"]) -> Float[Tensor, " n"]:
    """Length of what is left of each image without its part in the space of the axes, in [0, 1] for unit images."""
    return (images - images @ axes.T @ axes).square().sum(dim=1).sqrt()


@register("residual")
@dataclass(frozen=True)
class Residual(Detector[Float[Tensor, "k d"]]):
    """Residual: how far an image lies outside the principal space of labelled images.

    Works with a single class, and with two labelled images or more.

    Args:
        share: share of the sum of squares of the labelled images that the principal space holds, in (0, 1).
    """

    paper: ClassVar[str] = (
        "Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching, CVPR 2022, arXiv:2203.10807"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_images: ClassVar[int] = 2
    min_classes: ClassVar[int] = 1
    reads_classes: ClassVar[bool] = False

    share: Annotated[float, Gt(0), Lt(1)] = 0.9

    def learn(self, task: Task) -> Float[Tensor, "k d"]:
        """The axes of the principal space."""
        return principal_space(task, self.share)

    def score(self, images: ImageFeatures, state: Float[Tensor, "k d"]) -> Float[Tensor, " n"]:
        """The norm of the residual, in [0, 1]; higher is more OOD."""
        return residual(images.pooled, state)
