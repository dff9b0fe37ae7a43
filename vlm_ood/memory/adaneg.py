"""AdaNeg: NegLabel whose labels move towards the images that were found to be of them.

Each class and each negative keeps the images f_1 ... f_L that NegLabel assigns to it with confidence and whose
prediction has the lowest entropy. Its proxy is, at length 1,

    t + f_1 + ... + f_L                                  task-adaptive: the same for every image
    w(t) t + w(f_1) f_1 + ...,  w(f) = exp(beta (x·f - 1))   sample-adaptive: what is near the image x counts most

with t the vector of its name. With S the share of the classes by NegLabel's equation on the names, and A the same on
the proxies, 1 - S and 1 - A are averaged with the weights `text_weight` and 1; the score is the log-odds of that, which
orders images alike and does not round to 1. With an empty memory A = S, and the score is NegLabel's.

An image is kept for its nearest class where S > g + gap (1 - g), for its nearest negative where S < g (1 - gap), with
g the `threshold`.

Paper: Zhang & Zhang, "AdaNeg: Adaptive Negative Proxy Guided OOD Detection with Vision-Language Models", NeurIPS 2024,
arXiv 2410.20149; parameters of their code (OpenOOD-VLM), whose 5.5 for `beta` is cut to 5 and whose L of 10 holds 9
images. It adds a batch to the memory before it scores the batch; we score first. Their memory has a place for each of
L images of each of eleven thousand labels; ours holds those that came, `capacity` in all: entropies are divided by the
logarithm of the number of labels, so that those of classes and of negatives compare.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from vlm_ood.detectors import FittedDetector
from vlm_ood.detectors.neglabel import NegativeBanks, NegLabel, neglabel
from vlm_ood.errors import TaskError
from vlm_ood.memory.base import Capacity, MemoryMethod, register
from vlm_ood.memory.entries import Entries
from vlm_ood.types import ImageFeatures

CELLS: Final = 2**22  # weights of proxies in memory at once, 32 MiB in double precision

Proxies = Literal["sample", "task"]


@register("adaneg")
@dataclass(frozen=True)
class AdaNeg(MemoryMethod):
    """NegLabel whose classes and negatives take in the images that they were assigned, over a fitted `neglabel`.

    Args:
        capacity: images in the memory at most.
        per_label: images of one class or negative at most.
        proxies: "sample" weighs the images of a label by their likeness to the image to score, "task" equally.
        beta: how much likeness counts with "sample", no unit.
        threshold: share of the classes that divides ID from OOD images.
        gap: how much of the range on each side of the threshold is too uncertain to be kept.
        text_weight: of NegLabel's own share, against 1 for that by proxies.
    """

    paper: ClassVar[str] = (
        "Zhang & Zhang, AdaNeg: Adaptive Negative Proxy Guided OOD Detection with Vision-Language Models, "
        "NeurIPS 2024, arXiv:2410.20149"
    )

    capacity: Capacity = 4096
    per_label: Annotated[int, Ge(1), Le(100)] = 10
    proxies: Proxies = "sample"
    beta: Annotated[float, Ge(0), Le(1000)] = 5.5
    threshold: Annotated[float, Gt(0), Le(1)] = 0.5
    gap: Annotated[float, Ge(0), Le(1)] = 0.5
    text_weight: Annotated[float, Ge(0), Le(1000)] = 0.1

    @property
    def most_per_label(self) -> int:
        """What was chosen as `per_label`."""
        return self.per_label

    def labels(self, fitted: FittedDetector[Any]) -> int:
        """One for each class, then one for each negative in its group."""
        return len(_names(_neglabel_of(fitted)[1]))

    def examine(
        self, fitted: FittedDetector[Any], images: ImageFeatures, memory: Entries
    ) -> tuple[Float[Tensor, " n"], Entries]:
        """The log-odds of the averaged share of the negatives; confident images are candidates."""
        fitted.score(images[:0])  # checks the dimension
        detector, banks = _neglabel_of(fitted)
        pooled = images.pooled.to(banks.classes.device)
        names = pooled.to(banks.classes.dtype) @ _names(banks).T
        plain = _log_odds(detector, banks, names)
        size = self._block(memory)
        blocks = zip(torch.split(pooled.to(names.dtype), size), torch.split(names, size), strict=True)
        adapted = [self._to_proxies(*block, banks, memory) for block in blocks]
        by_proxies = _log_odds(detector, banks, torch.cat(adapted))
        scores = _averaged(by_proxies, plain, self.text_weight).float()
        return scores, self._confident(detector, banks, pooled, names, plain)

    def _block(self, memory: Entries) -> int:
        return max(1, CELLS // max(1, len(memory) * (self.per_label + 1)))

    def _to_proxies(
        self, pooled: Float[Tensor, "n d"], names: Float[Tensor, "n l"], banks: NegativeBanks, memory: Entries
    ) -> Float[Tensor, "n l"]:
        """Cosines to all proxies; where no image is kept for a label, that to its name."""
        if not len(memory):
            return names
        rows, places = torch.unique(memory.labels, return_inverse=True)  # labels that have images
        ranks = memory.ranks + 1
        members = pooled.new_zeros(len(rows), int(ranks.max()) + 1, pooled.shape[1])  # the name, then the images
        members[:, 0] = _names(banks)[rows]
        members[places, ranks] = memory.vectors.to(members.dtype)
        products = torch.einsum("nd,lkd->nlk", pooled, members)
        weights = (self.beta * (products - 1)).exp() if self.proxies == "sample" else torch.ones_like(products)
        weights = weights * members.any(dim=-1)  # places without an image count nothing
        pairs = members @ members.mT
        lengths = torch.einsum("nlk,lkj,nlj->nl", weights, pairs, weights).clamp(min=0).sqrt()
        tiny = torch.finfo(lengths.dtype).tiny
        cosines = names.clone()
        cosines[:, rows] = ((weights * products).sum(dim=-1) / lengths.clamp(min=tiny)).clamp(-1, 1)
        return cosines

    def _confident(
        self,
        detector: NegLabel,
        banks: NegativeBanks,
        pooled: Float[Tensor, "n d"],
        names: Float[Tensor, "n l"],
        plain: Float[Tensor, " n"],
    ) -> Entries:
        """Images that are surely of the classes or surely of the negatives, each for its nearest name."""
        share = (-plain).sigmoid()
        of_classes = share > self.threshold + self.gap * (1 - self.threshold)
        of_negatives = share < self.threshold * (1 - self.gap)
        count = len(banks.classes)
        costs = torch.where(of_classes, _entropy(names[:, :count], detector), _entropy(names[:, count:], detector))
        labels = torch.where(of_classes, names[:, :count].argmax(dim=1), count + names[:, count:].argmax(dim=1))
        return Entries(pooled, costs.float(), labels)[of_classes | of_negatives]


def _neglabel_of(fitted: FittedDetector[Any]) -> tuple[NegLabel, NegativeBanks]:
    """The detector and its state.

    Raises:
        TaskError: another detector.
    """
    if not isinstance(fitted.detector, NegLabel):
        raise TaskError(
            f"adaneg adapts the negatives of neglabel, not {fitted.detector.name}: fit neglabel, or use oodd, which "
            "works with any detector"
        )
    return fitted.detector, fitted.state


def _names(banks: NegativeBanks) -> Float[Tensor, "l d"]:
    """The classes, then the negatives, group by group."""
    return torch.cat([banks.classes, banks.grouped.flatten(0, 1)])


def _log_odds(detector: NegLabel, banks: NegativeBanks, cosines: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
    """NegLabel's score from the cosines to all labels."""
    classes, negatives = cosines[:, : len(banks.classes)], cosines[:, len(banks.classes) :]
    grouped = negatives.reshape(len(cosines), *banks.grouped.shape[:2])
    return neglabel(classes, grouped, detector.temperature, detector.form)


def _averaged(one: Float[Tensor, " n"], other: Float[Tensor, " n"], weight: float) -> Float[Tensor, " n"]:
    """The log-odds of the mean of two probabilities with the weights 1 and `weight`, all as log-odds."""
    if not weight:
        return one
    shift = math.log(weight)
    return torch.logaddexp(logsigmoid(one), logsigmoid(other) + shift) - torch.logaddexp(
        logsigmoid(-one), logsigmoid(-other) + shift
    )


def _entropy(cosines: Float[Tensor, "n l"], detector: NegLabel) -> Float[Tensor, " n"]:
    """Of the softmax over these names, in [0, 1]: divided by its largest value."""
    logs = (cosines / detector.temperature).log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1) / math.log(max(2, cosines.shape[1]))
