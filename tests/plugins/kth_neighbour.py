"""k-th nearest neighbour: the distance of an image to the labelled images.

Paper: Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, arXiv 2204.06507: minus the
k-th largest cosine to the training images is a distance; their k is our `k`.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.errors import TaskError
from vlm_ood.types import ImageFeatures, Task


def kth_nearest(cosine: Float[Tensor, "n s"], k: int) -> Float[Tensor, " n"]:
    """Minus the k-th largest cosine per image, in [-1, 1]; higher is more OOD."""
    return -cosine.topk(k, dim=-1).values[:, -1]


@register("kth_neighbour")
@dataclass(frozen=True)
class KthNeighbour(Detector[Float[Tensor, "s d"]]):
    """Distance to the k-th nearest labelled image.

    Args:
        k: which neighbour counts; at most the number of labelled images.
    """

    paper: ClassVar[str] = "Sun et al., Deep Nearest Neighbors, ICML 2022, arXiv:2204.06507"
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_classes: ClassVar[int] = 1

    k: Annotated[int, Ge(1)] = 1

    def learn(self, task: Task) -> Float[Tensor, "s d"]:
        """The vectors of the labelled images.

        Raises:
            TaskError: fewer labelled images than `k`.
        """
        if task.support is None or len(task.support.labels) < self.k:
            raise TaskError(f"{self.name} needs at least {self.k} labelled images: give more, or lower k")
        return task.support.features.pooled

    def score(self, images: ImageFeatures, state: Float[Tensor, "s d"]) -> Float[Tensor, " n"]:
        """`kth_nearest` over the labelled images."""
        return kth_nearest(images.pooled @ state.T, self.k)
