"""Virtual-logit matching: free energy over the classes, and one more class that stands for what is unlike the images.

    score(x) = E(x) + alpha |x - P x|     E(x) = -ln(sum_k exp(s c_k)) / s     alpha = mean_i(max_k c_ik) / r

c_k is the cosine of the image to class k, s the `scale`, |x - P x| the score of `residual`, the mean is over the
labelled images i, and r is the residual that a new image of the classes is expected to have: with it the virtual logit
s alpha |x - P x| is on average as large as the largest logit.

Paper: Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022, arXiv 2203.10807, equations 5 to
7. Theirs is the softmax probability of the virtual logit, which rises with s times our score.

- The vectors of the classes are the last layer, without a bias; `residual` says what that does to the origin and how
  many axes there are.
- Their r is the mean residual of the training images themselves. Few images lie close to the space that was made of
  them and new ones don't, so that alpha comes out up to twice too large. Ours is what the shrunk covariance C and mean
  m of the images say about new ones: r^2 = tr((I - P)(C + m m^T)).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float, Float64
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.energy import energy
from vlm_ood.detectors.residual import principal_space, residual
from vlm_ood.detectors.statistics import SupportStatistics, statistics_of
from vlm_ood.types import ImageFeatures, Task

BLOCK: Final = 1024  # labelled images whose cosines to all classes are in memory at once


@dataclass(frozen=True, eq=False)
class Matched:
    """What the method learns.

    Args:
        classes: (c, d).
        axes: (k, d) of the principal space.
        alpha: weight of the residual.
    """

    classes: Float[Tensor, "c d"]
    axes: Float[Tensor, "k d"]
    alpha: float


@register("vim")
@dataclass(frozen=True)
class ViM(Detector[Matched]):
    """Virtual-logit matching: free energy over classes, and the residual of labelled images.

    Works with a single class, and with two labelled images or more.

    Args:
        scale: multiplies cosines, no unit; 100 is what CLIP was trained to.
        share: share of the sum of squares of the labelled images that the principal space holds, in (0, 1).
    """

    paper: ClassVar[str] = (
        "Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching, CVPR 2022, arXiv:2203.10807"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_images: ClassVar[int] = 2
    min_classes: ClassVar[int] = 1

    scale: Annotated[float, Ge(1), Le(1000)] = 100.0
    share: Annotated[float, Gt(0), Lt(1)] = 0.9

    def learn(self, task: Task) -> Matched:
        """Find the principal space and match alpha."""
        classes = task.classes.embeddings
        axes = principal_space(task, self.share)
        known = statistics_of(task)
        alpha = largest_cosine(known.images, classes) / expected_residual(known, known.principal(self.share))
        return Matched(classes, axes, alpha)

    def score(self, images: ImageFeatures, state: Matched) -> Float[Tensor, " n"]:
        """Energy plus alpha times the residual, in units of cosines; higher is more OOD."""
        least = energy(images.pooled @ state.classes.T, self.scale)
        return least + state.alpha * residual(images.pooled, state.axes)


def largest_cosine(images: Float64[Tensor, "s d"], classes: Float[Tensor, "c d"]) -> float:
    """The mean over images of the cosine to the nearest class."""
    rows = classes.cpu().double()
    return float(torch.cat([(block @ rows.T).amax(dim=1) for block in torch.split(images, BLOCK)]).mean())


def expected_residual(known: SupportStatistics, axes: Float64[Tensor, "k d"]) -> float:
    """Root of the mean squared residual of images with the mean and the shrunk covariance of the labelled ones."""
    whole = known.total.trace() + known.centre.square().sum()
    held = (axes @ known.total * axes).sum() + (axes @ known.centre).square().sum()
    return float((whole - held).sqrt())
