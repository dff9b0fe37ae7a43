"""Fast decision boundary distance: how far an image is from becoming another class, relative to that to the mean image.

An image of a known class has to be moved a long way before a classifier calls it something else. The distance to the
boundary between two classes of a linear classifier is known in closed form; images far from the mean of the training
images are further from every boundary, so that the mean distance is divided by the distance to that mean:

    score(x) = -1 / (c - 1) sum_{k != y} (x . t_y - x . t_k) / |t_y - t_k| / |x - mu|,    y = argmax_k x . t_k

Paper: Liu and Qin, "Fast Decision Boundary based Out-of-Distribution Detector", ICML 2024, arXiv 2312.11536: their z is
our x, their w_k our t_k, their mu_train the mean of the labelled images. What differs: the last layer is that of
zero-shot CLIP, the vectors of the class names without bias, so that a few images are needed for mu alone (their mean
image in place of t_k costs 0.05 AUROC or more on near classes, with two images each); and classes of one vector, which
have no boundary between them, add nothing.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.types import ImageFeatures, Task

SAME: Final = 1e-3  # distance below which two unit vectors in fp32 are one class
AT_MEAN: Final = 1e-6  # least distance to the mean, which an image may lie on


@dataclass(frozen=True, eq=False)
class Boundaries:
    """What the method learns.

    Args:
        classes: (c, d), t.
        centre: (d,), mu.
    """

    classes: Float[Tensor, "c d"]
    centre: Float[Tensor, " d"]


@register("fdbd")
@dataclass(frozen=True)
class FDBD(Detector[Boundaries]):
    """Mean distance to the boundaries of other classes, relative to that to the mean image."""

    paper: ClassVar[str] = (
        "Liu & Qin, Fast Decision Boundary based Out-of-Distribution Detector, ICML 2024, arXiv:2312.11536"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_images_per_class: ClassVar[int] = 1

    def learn(self, task: Task) -> Boundaries:
        """The class vectors and the mean of the labelled images."""
        classes = task.classes.embeddings
        return Boundaries(classes, statistics_of(task).centre.to(classes))

    def score(self, images: ImageFeatures, state: Boundaries) -> Float[Tensor, " n"]:
        """Minus the mean distance to the boundaries over the distance to the mean, at most 0; higher is more OOD."""
        away = (images.pooled - state.centre).norm(dim=1).clamp(min=AT_MEAN)
        return -boundary_distance(images.pooled, state.classes).div(away)


def boundary_distance(images: Float[Tensor, "n d"], classes: Float[Tensor, "c d"]) -> Float[Tensor, " n"]:
    """Mean distance of each image to the boundaries between its best class and every other; classes are unit vectors.

    The distances between classes are computed for the best ones only: all of them would be c x c numbers.
    """
    cosine = images @ classes.T
    best = cosine.max(dim=1)
    apart = (2 - 2 * classes[best.indices] @ classes.T).clamp(min=0).sqrt()
    distance = (best.values[:, None] - cosine) / apart.clamp(min=SAME)
    return distance.where(apart > SAME, 0.0).sum(dim=1) / (len(classes) - 1)
