"""Igeood: how far the class probabilities of an image are, by Fisher-Rao distance, from those that the classes have.

The softmax of an image is compared with one centre per class, the softmax of the mean logits of its labelled images.
The distance is the length of the shortest path between two distributions, where lengths are in units of information. An
image of a known class is near one centre and far, up to pi, from all others; an image that belongs to no class has
spread probabilities and is nearer to most of them. So the score is minus the mean distance:

    p(x) = softmax_k(s x . t_k)    q_j = p(mean of the images of class j)    d_j(x) = 2 arccos( sum_k sqrt(p_k q_jk) )
    score(x) = -1 / c sum_j d_j(x)

s is the `scale`, t_k the vector of the class name.

Paper: Gomes et al., "Igeood: An Information Geometry Approach to Out-of-Distribution Detection", ICLR 2022, arXiv
2203.07798, the variant of logits; their temperature T is 100 / s for CLIP's own scale of 100. Their images are not
disturbed by a gradient here, as a detector reads vectors only. Their variant of features has no file: between Gaussians
of one covariance, as few images leave it, the Fisher-Rao distance is 2 sqrt(2) arcsinh(m / sqrt(8)) with m the
Mahalanobis distance, so that it ranks images as `mahalanobis` does; and their form with diagonal covariances was
measured within 0.005 of that, for one arcsinh per image, class and dimension.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.types import ImageFeatures, Task

CHUNK: Final = 256  # classes whose probabilities are fp64 at once


@dataclass(frozen=True, eq=False)
class Centres:
    """What the method learns.

    Args:
        classes: (c, d), t.
        roots: (c, c), square roots of the probabilities of each centre; unit rows. 400 MB for 10 000 classes.
    """

    classes: Float[Tensor, "c d"]
    roots: Float[Tensor, "c c"]


@register("igeood")
@dataclass(frozen=True)
class Igeood(Detector[Centres]):
    """Mean Fisher-Rao distance of the class probabilities to those of every class.

    Args:
        scale: multiplies cosines, no unit; 100 is what CLIP was trained to, half of it leaves softer probabilities.
    """

    paper: ClassVar[str] = (
        "Gomes et al., Igeood: An Information Geometry Approach to Out-of-Distribution Detection, "
        "ICLR 2022, arXiv:2203.07798"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_images_per_class: ClassVar[int] = 1

    scale: Annotated[float, Ge(1), Le(1000)] = 50.0

    def learn(self, task: Task) -> Centres:
        """The probabilities of the mean image of each class; its logits are the mean logits, as these are linear."""
        classes = task.classes.embeddings
        exact = classes.cpu().double()
        chunks = torch.split(statistics_of(task).means, CHUNK)
        return Centres(classes, torch.cat([root_probabilities(rows, exact, self.scale).to(classes) for rows in chunks]))

    def score(self, images: ImageFeatures, state: Centres) -> Float[Tensor, " n"]:
        """Minus the mean distance to the centres, in [-pi, 0]; higher is more OOD."""
        return -distances(root_probabilities(images.pooled, state.classes, self.scale), state.roots).mean(dim=1)


def root_probabilities(
    images: Float[Tensor, "n d"], classes: Float[Tensor, "c d"], scale: float
) -> Float[Tensor, "n c"]:
    """Square roots of the softmax over classes: unit rows."""
    return (scale * images @ classes.T).softmax(dim=1).sqrt()


def distances(roots: Float[Tensor, "n c"], centres: Float[Tensor, "j c"]) -> Float[Tensor, "n j"]:
    """Twice the angle between unit rows, in [0, pi]; that to the nearest centre by their chord.

    The arccosine of fp32 is exact to 0.0005 only where two rows are nearly equal.
    """
    inner = roots @ centres.T
    nearest = inner.argmax(dim=1, keepdim=True)
    chord = (roots - centres[nearest.squeeze(1)]).norm(dim=1, keepdim=True)
    return (2 * inner.clamp(max=1).acos()).scatter(1, nearest, 4 * torch.asin(chord / 2))
