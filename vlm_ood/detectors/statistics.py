"""What several methods learn from labelled images alike: counts, means, covariances, their eigenvectors.

Computed in fp64 on the CPU, each on first use and once for a support set, however many methods are fitted to it.
"""

from functools import cached_property
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional

from vlm_ood.errors import TaskError
from vlm_ood.types import REMEDIES, Support, Task

LEAST: Final = 1e-8  # variance that every axis has, so that equal images leave a covariance that can be inverted
RANK: Final = 1e-6  # of the largest spread; below it an axis is rounding of fp32 vectors


class SupportStatistics:
    """Statistics of the unit vectors of s labelled images of c classes.

    Args:
        support: the images; at least one.
        classes: c, how many classes there are; some may have no image.
    """

    def __init__(self, support: Support, classes: int) -> None:
        self.images: Float64[Tensor, "s d"] = support.features.pooled.cpu().double()
        self.labels: Int64[Tensor, " s"] = support.labels.cpu()
        self.classes = classes

    @cached_property
    def counts(self) -> Float64[Tensor, " c"]:
        """Images per class."""
        return torch.bincount(self.labels, minlength=self.classes).double()

    @cached_property
    def centre(self) -> Float64[Tensor, " d"]:
        """The mean of all images."""
        return self.images.mean(dim=0)

    @cached_property
    def means(self) -> Float64[Tensor, "c d"]:
        """The mean of each class, not brought to length 1; zero for a class without images."""
        sums = torch.zeros(self.classes, self.images.shape[1], dtype=torch.float64)
        return sums.index_add(0, self.labels, self.images) / self.counts.clamp(min=1)[:, None]

    @cached_property
    def prototypes(self) -> Float64[Tensor, "c d"]:
        """The mean of each class at length 1; zero for a class without images."""
        return functional.normalize(self.means, dim=1)

    @cached_property
    def within(self) -> Float64[Tensor, "d d"]:
        """Covariance of the images around the means of their classes, shrunk by `shrunk`."""
        around = self.images - self.means[self.labels]
        freedom = max(1, len(around) - int((self.counts > 0).sum()))
        return shrunk(around, freedom)

    @cached_property
    def total(self) -> Float64[Tensor, "d d"]:
        """Covariance of the images around `centre`, shrunk by `shrunk`."""
        return shrunk(self.images - self.centre, max(1, len(self.images) - 1))

    @cached_property
    def axes(self) -> tuple[Float64[Tensor, " r"], Float64[Tensor, "r d"]]:
        """`principal_axes` of the images around zero."""
        return principal_axes(self.images)

    def principal(self, share: float) -> Float64[Tensor, "k d"]:
        """The first of `axes`, by `holding`.

        One stays out where there are two or more, so that some labelled image lies outside the space too.
        """
        return holding(self.axes, share)[: max(1, len(self.axes[1]) - 1)]


def principal_axes(rows: Float64[Tensor, "s d"]) -> tuple[Float64[Tensor, " r"], Float64[Tensor, "r d"]]:
    """Mean squares of the rows along their principal axes, from the largest on, and unit axes; none of rounding."""
    squares, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    kept = squares > squares[-1] * RANK**2
    return squares[kept].flip(0), axes.T[kept].flip(0)


def holding(principal: tuple[Float64[Tensor, " r"], Float64[Tensor, "r d"]], share: float) -> Float64[Tensor, "k d"]:
    """The first of `principal_axes`, as many as hold this share of the squares."""
    squares, axes = principal
    return axes[: int((squares.cumsum(0) < share * squares.sum()).sum()) + 1]


def shrunk(rows: Float64[Tensor, "s d"], freedom: int) -> Float64[Tensor, "d d"]:
    """Covariance of centred rows, drawn to a multiple of the identity as far as few rows make it uncertain.

    (1 - a) S + a v I with S the sample covariance, v its mean variance, and a the oracle approximating shrinkage of
    Chen et al., "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE TSP 2010, arXiv 0907.4698, equation 23.

    Args:
        rows: around their centre or centres.
        freedom: how many of the rows are independent: s less the number of centres, at least 1.
    """
    d = rows.shape[1]
    sample = rows.T @ rows / freedom
    trace, squares = sample.trace(), sample.square().sum()
    apart = (squares - trace**2 / d).clamp(min=LEAST**2)  # 0 where all axes have the same variance
    weight = ((1 - 2 / d) * squares + trace**2) / ((freedom + 1 - 2 / d) * apart)
    identity = torch.eye(d, dtype=torch.float64)
    return sample.lerp(identity * trace / d, weight.clamp(max=1).item()) + LEAST * identity


_LOCK: Final = Lock()
_MADE: "Final[WeakKeyDictionary[Support, SupportStatistics]]" = WeakKeyDictionary()


def statistics_of(task: Task) -> SupportStatistics:
    """The statistics of the labelled images of a task, which it must have; the same object for the same images."""
    if task.support is None:
        raise TaskError(f"labelled images are needed: vo.Task(classes=..., {REMEDIES['support']})")
    with _LOCK:
        made = _MADE.get(task.support)
        if made is None or made.classes != len(task.classes):
            made = _MADE[task.support] = SupportStatistics(task.support, len(task.classes))
        return made
