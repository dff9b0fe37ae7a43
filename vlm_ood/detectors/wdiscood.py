"""WDiscOOD: distance to the nearest class where classes differ, and to the centre in the rest of the space.

    z = W^(-1/2) x     score(x) = min_k |D (z - m_k)| + `weight` |(I - D)(z - m)|

W is the covariance of the labelled images around the means of their classes, so that z varies alike in all directions
within a class (the paper's whitening); m_k is the mean of class k in these coordinates and m the mean of all m_k. D
projects on the discriminative space: the axes along which the m_k differ most, as linear discriminant analysis finds
them after whitening. They hold `share` of the squares of m_k - m.

Paper: Chen et al., "WDiscOOD: Out-of-Distribution Detection via Whitened Linear Discriminant Analysis", ICCV 2023,
arXiv 2303.07543, their alpha is our `weight`, 1 for their vision transformer and 5 for their ResNets.

- W is shrunk to a multiple of the identity (`SupportStatistics.within`), since few images leave most directions unseen.
  The paper needs W twice, to whiten and in the discriminants; after whitening it is the identity there.
- Their number of discriminants is fixed (512 of 768, 1000 of 2048); a share gives fewer where there are few classes.
- The images have length 1, as in the paper for the vision transformer.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float, Float64
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.statistics import holding, principal_axes, statistics_of
from vlm_ood.types import ImageFeatures, Task


@dataclass(frozen=True, eq=False)
class Discriminants:
    """What the method learns.

    Args:
        whiten: (d, d); x @ whiten - centre is z - m.
        centre: (d,), m.
        axes: (k, d) of the discriminative space.
        means: (c, k), the m_k - m along these axes.
    """

    whiten: Float[Tensor, "d d"]
    centre: Float[Tensor, " d"]
    axes: Float[Tensor, "k d"]
    means: Float[Tensor, "c k"]


@register("wdiscood")
@dataclass(frozen=True)
class WDiscOOD(Detector[Discriminants]):
    """Distance to the nearest class where classes differ, and to the centre in the other axes.

    Args:
        share: share of the squares of the class means around their centre that the discriminative space holds, in
            (0, 1).
        weight: of the distance outside the discriminative space, no unit.
    """

    paper: ClassVar[str] = (
        "Chen et al., WDiscOOD: Out-of-Distribution Detection via Whitened Linear Discriminant Analysis, ICCV 2023, "
        "arXiv:2303.07543"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_images_per_class: ClassVar[int] = 2
    reads_classes: ClassVar[bool] = False

    share: Annotated[float, Gt(0), Lt(1)] = 0.95
    weight: Annotated[float, Ge(0), Le(100)] = 1.0

    def learn(self, task: Task) -> Discriminants:
        """Whiten the class means and find the axes along which they differ."""
        known, like = statistics_of(task), task.classes.embeddings
        whiten = inverse_root(known.within)
        means = known.means @ whiten
        centre = means.mean(dim=0)
        axes = holding(principal_axes(means - centre), self.share)
        return Discriminants(whiten.to(like), centre.to(like), axes.to(like), ((means - centre) @ axes.T).to(like))

    def score(self, images: ImageFeatures, state: Discriminants) -> Float[Tensor, " n"]:
        """The sum of both distances; higher is more OOD."""
        places = images.pooled @ state.whiten - state.centre
        inside = places @ state.axes.T
        apart = state.means.square().sum(dim=1) - 2 * inside @ state.means.T
        nearest = (inside.square().sum(dim=1) + apart.amin(dim=1)).clamp(min=0).sqrt()
        outside = (places - inside @ state.axes).square().sum(dim=1).sqrt()
        return nearest + self.weight * outside


def inverse_root(covariance: Float64[Tensor, "d d"]) -> Float64[Tensor, "d d"]:
    """The symmetric matrix whose square is the inverse."""
    variances, axes = torch.linalg.eigh(covariance)
    root: Float64[Tensor, "d d"] = axes / variances.sqrt() @ axes.T
    return root
