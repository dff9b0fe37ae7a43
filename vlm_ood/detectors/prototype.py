"""Class prototypes: how far an image is from the mean image of the nearest class.

    score(x) = -max_k cos(x, p_k)     p_k = m_k / |m_k|

m_k is the mean vector of the labelled images of class k; class names are not read.

Paper: Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017, arXiv 1703.05175: a class is the mean
of its few embedded images, and an image is of the class whose mean is nearest by squared Euclidean distance. They train
the embedding for it and use the distances to classify. Here the embedding is the encoder's, the means have length 1 as
the images have, so that the distance is 2 - 2 cos, and the distance to the nearest is the OOD score. With one image per
class it is `knn`.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.types import ImageFeatures, Task


@register("prototype")
@dataclass(frozen=True)
class Prototype(Detector[Float[Tensor, "c d"]]):
    """Distance to the mean of the labelled images of the nearest class.

    Works with a single class.
    """

    paper: ClassVar[str] = "Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017, arXiv:1703.05175"
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    reads_classes: ClassVar[bool] = False
    min_classes: ClassVar[int] = 1
    min_images_per_class: ClassVar[int] = 1

    def learn(self, task: Task) -> Float[Tensor, "c d"]:
        """The prototypes of the classes."""
        return statistics_of(task).prototypes.to(task.classes.embeddings)

    def score(self, images: ImageFeatures, state: Float[Tensor, "c d"]) -> Float[Tensor, " n"]:
        """Minus the largest cosine, in [-1, 1]; higher is more OOD."""
        return -(images.pooled @ state.T).amax(dim=1)
