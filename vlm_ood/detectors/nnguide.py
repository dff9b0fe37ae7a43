"""Nearest neighbour guidance: energy times closeness to the labelled images that have high energy themselves.

    E(x) = ln(sum_k exp(s t_k . x)) / s     G(x) = mean of the k largest E(f_i) (f_i . x)     score(x) = -E(x) G(x)

t_k is the vector of the name of class k, s the `scale`, f_i the vector of a labelled image. An image far from all that
is known has a low G, which an overconfident classifier doesn't have.

Paper: Park et al., "Nearest Neighbor Guidance for Out-of-Distribution Detection", ICCV 2023, arXiv 2309.14888: S = E G
with the energies of a trained classifier, a hundredth of ImageNet's training images and k = 10. Here the vectors of the
names are the last layer, and energies are divided by s to be in units of cosines, which changes no order. k is 2, for
few images: 1 to 3 are within 0.002 of each other (mean AUROC on CLIP ViT-B/32 vectors, 1 to 3 images per class).

Their energies are positive, those of cosines need not be, and the product of two negative numbers would mean "known".
So a labelled image with E < 0 counts as one with E = 0, and for an image with E(x) < 0 the score is -E(x).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.energy import energy
from vlm_ood.detectors.neighbours import labelled, largest_products
from vlm_ood.types import ImageFeatures, Task


@dataclass(frozen=True, eq=False)
class Guides:
    """What the method learns.

    Args:
        classes: (c, d).
        images: (s, d), the vectors of the labelled images, each times its energy.
    """

    classes: Float[Tensor, "c d"]
    images: Float[Tensor, "s d"]


@register("nnguide")
@dataclass(frozen=True)
class NNGuide(Detector[Guides]):
    """Free energy times closeness to the labelled images.

    Works with a single class.

    Args:
        k: how many neighbours count; at most the number of labelled images.
        scale: multiplies cosines to class names, no unit; 100 is what CLIP was trained to.
    """

    paper: ClassVar[str] = (
        "Park et al., Nearest Neighbor Guidance for Out-of-Distribution Detection, ICCV 2023, arXiv:2309.14888"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_classes: ClassVar[int] = 1
    with_fewer_images: ClassVar[str] = "give a smaller k"

    k: Annotated[int, Ge(1), Le(10_000)] = 2
    scale: Annotated[float, Ge(1), Le(1000)] = 100.0

    @property
    def images_needed(self) -> int:
        """`k`."""
        return self.k

    def learn(self, task: Task) -> Guides:
        """Scale the labelled images by their energies."""
        classes, images = task.classes.embeddings, labelled(task)
        return Guides(classes, images * self._closeness(images, classes).clamp(min=0)[:, None])

    def score(self, images: ImageFeatures, state: Guides) -> Float[Tensor, " n"]:
        """Minus energy times guidance; higher is more OOD."""
        near = self._closeness(images.pooled, state.classes)
        guidance = largest_products(images.pooled, state.images, self.k).mean(dim=1)
        return -(near.clamp(min=0) * guidance + near.clamp(max=0))

    def _closeness(self, images: Float[Tensor, "n d"], classes: Float[Tensor, "c d"]) -> Float[Tensor, " n"]:
        """E, the free energy without its sign."""
        return -energy(images @ classes.T, self.scale)
