"""Nearest neighbours: how far an image is from the labelled images that are nearest to it.

    score(x) = -c_(k)     or, with `average`,     score(x) = -(c_(1) + ... + c_(k)) / k

c_(i) is the i-th largest cosine of x to a labelled image; class names are not read.

Paper: Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, arXiv 2204.06507: the
distance of a normalised feature to its k-th nearest training feature, with hundreds of images per class and k from 50
to 1000. The square of their distance is 2 - 2 c_(k), so that the order is the same. With few images the k-th neighbour
soon is of another class, so k is 1 by default: on CLIP ViT-B/32 vectors with 1 to 3 images per class that was the best
k for 10 to 100 classes, and 5 to 10 for 1000. Their paper has no average; with it the choice of k matters less.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.neighbours import labelled, largest_products
from vlm_ood.types import ImageFeatures, Task


@register("knn")
@dataclass(frozen=True)
class KNN(Detector[Float[Tensor, "s d"]]):
    """Distance to the nearest labelled images.

    Works with a single class, and with any number of labelled images.

    Args:
        k: which neighbour counts, the first being the nearest; at most the number of labelled images.
        average: take the mean cosine of the first k neighbours in place of that of the k-th.
    """

    paper: ClassVar[str] = (
        "Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022, arXiv:2204.06507"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    reads_classes: ClassVar[bool] = False
    min_classes: ClassVar[int] = 1
    with_fewer_images: ClassVar[str] = "give a smaller k"

    k: Annotated[int, Ge(1), Le(10_000)] = 1
    average: bool = False

    @property
    def images_needed(self) -> int:
        """`k`."""
        return self.k

    def learn(self, task: Task) -> Float[Tensor, "s d"]:
        """The vectors of the labelled images."""
        return labelled(task)

    def score(self, images: ImageFeatures, state: Float[Tensor, "s d"]) -> Float[Tensor, " n"]:
        """Minus the cosine, in [-1, 1]; higher is more OOD."""
        nearest = largest_products(images.pooled, state, self.k)
        return -(nearest.mean(dim=1) if self.average else nearest[:, -1])
