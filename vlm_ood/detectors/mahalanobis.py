"""Mahalanobis distance: how far an image is from the nearest class mean, in units of the spread within classes.

Directions in which labelled images of one class differ from each other count less than those in which they don't.

    d_k(x) = (x - m_k)^T W^-1 (x - m_k)     score = min_k d_k(x)     relative: min_k d_k(x) - d_0(x)
    d_0(x) = (x - m)^T T^-1 (x - m)

m_k is the mean of the labelled images of class k (the papers' mu_k), W the covariance around these means, shared by all
classes (Sigma), m the mean of all labelled images (mu_0) and T their covariance around it (Sigma_0).

Papers: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
NeurIPS 2018, arXiv 1807.03888; `relative` is Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD
Detection", 2021, arXiv 2106.09022. Theirs are trained on thousands of images per class; here there are a few:

- W is shrunk to a multiple of the identity (`SupportStatistics.within`). T is W plus the covariance of the class means,
  so that both distances are alike where no labelled image lies; two covariances shrunk apart differ most there.
- The vectors of images have length 1 (Müller and Hein, "Mahalanobis++", ICML 2025, arXiv 2505.18032, on why this
  helps); the means are not brought to it.
- One layer is read, and nothing is added to the image: no ensemble of layers, no perturbation.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.types import ImageFeatures, Task


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians of one covariance, in coordinates in which it is the identity.

    Args:
        whiten: (d, d); x @ whiten - origin are the coordinates of x.
        origin: (d,).
        means: (k, d) in these coordinates.
    """

    whiten: Float[Tensor, "d d"]
    origin: Float[Tensor, " d"]
    means: Float[Tensor, "k d"]

    @staticmethod
    def of(
        means: Float64[Tensor, "k d"], covariance: Float64[Tensor, "d d"], origin: Float64[Tensor, " d"], like: Tensor
    ) -> "Gaussians":
        """With these means and this covariance, in the precision and on the device of a tensor."""
        variances, axes = torch.linalg.eigh(covariance)
        whiten = axes / variances.sqrt()
        return Gaussians(whiten.to(like), (origin @ whiten).to(like), ((means - origin) @ whiten).to(like))

    def nearest(self, images: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The squared Mahalanobis distance of each image to the nearest mean."""
        places = images @ self.whiten - self.origin
        apart = self.means.square().sum(dim=1) - 2 * places @ self.means.T
        return (places.square().sum(dim=1) + apart.amin(dim=1)).clamp(min=0)


@register("mahalanobis")
@dataclass(frozen=True)
class Mahalanobis(Detector[tuple[Gaussians, Gaussians | None]]):
    """Distance to the nearest class mean of labelled images, by the spread within classes.

    Args:
        relative: whether the distance to one Gaussian of all labelled images is taken away; better where there are many
            classes and OOD images resemble them (near OOD), worse where they don't.
    """

    paper: ClassVar[str] = (
        "Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks, "
        "NeurIPS 2018, arXiv:1807.03888"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"support"})
    min_classes: ClassVar[int] = 1
    min_images_per_class: ClassVar[int] = 2
    reads_classes: ClassVar[bool] = False

    relative: bool = False

    def learn(self, task: Task) -> tuple[Gaussians, Gaussians | None]:
        """Gaussians of the classes, and with `relative` one of all images."""
        known, like = statistics_of(task), task.classes.embeddings
        classes = Gaussians.of(known.means, known.within, known.centre, like)
        if not self.relative:
            return classes, None
        around = known.means - known.centre
        between = around.T @ (around * known.counts[:, None]) / len(known.images)
        return classes, Gaussians.of(known.centre[None], known.within + between, known.centre, like)

    def score(self, images: ImageFeatures, state: tuple[Gaussians, Gaussians | None]) -> Float[Tensor, " n"]:
        """The squared distance to the nearest class, less that to all images; higher is more OOD."""
        classes, everything = state
        nearest = classes.nearest(images.pooled)
        return nearest if everything is None else nearest - everything.nearest(images.pooled)
