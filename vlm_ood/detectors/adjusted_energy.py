"""Free energy, raised where an image is close to all classes alike: holds where no OOD data are there to choose by.

Two ways of not belonging, in one number in units of cosines. Either no class is near: that is the free energy E of
`energy`. Or every class is near alike, as for an image that resembles text in general or photographs in general: then
the cosine to the mean class, m, is above the level m0 that ordinary photographs have.

    E(x) = ln(sum_k exp(s c_k)) / s     m(x) = x . t     score = -E(x) + beta max(0, m(x) - m0)     m0 = u . t

c_k is the cosine to class k, s the `scale`, t the mean of the class vectors, and u the mean vector of a few diverse
ordinary photographs (`Task.background`). Below the ordinary level the score is `energy`; above it, where a common part
of all cosines says nothing about a class, most of that part is taken away, as the softmax of `mcm` does.

With fewer than `FEW` classes t is nearly a class itself, so it is drawn to g, the mean vector of everyday words:
t = (sum_k t_k + FEW g) / (c + FEW). Without photographs (`background` is None) no level is known, and the score is
-E(x) + m(x) / 2. With labelled images their own m gives the level: m0 = mean - sd / 2, where the variance is shrunk to
a prior: sd^2 = (n var + 2 (PRIOR / s)^2) / (n + 2). Negatives add `PULL` max(0, N(x) - E(x) - `MARGIN`), N being E over
the negatives: words that are clearly nearer than the classes.

No published score holds on every set: energy fails on textures, MCM on fine-grained sets, the largest cosine in
between. The constants were chosen on CLIP ViT-B/32 vectors of ImageNet, SUN397 and Stanford Cars, and on random
vocabularies of 2 to 100 classes; docs/methods.md has the table.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.energy import energy
from vlm_ood.detectors.neglabel import strongest_negatives
from vlm_ood.types import ImageFeatures, Task, TextBank

FEW: Final = 10  # classes; with fewer, the mean of everyday words counts as so many classes
WITHOUT_LEVEL: Final = 0.5  # weight of m where no level is known
PRIOR: Final = 1.5  # standard deviation of m times the scale, as two images would give it
PULL: Final = 0.25  # weight of negatives
MARGIN: Final = 0.03  # cosine by which negatives must be nearer than the classes


@dataclass(frozen=True, eq=False)
class Levels:
    """What the method learns.

    Args:
        classes: (c, d).
        centre: (d,), t.
        level: m0; None where there are neither photographs nor labelled images.
        negatives: None without them.
    """

    classes: Float[Tensor, "c d"]
    centre: Float[Tensor, " d"]
    level: float | None
    negatives: TextBank | None


@register("adjusted_energy")
@dataclass(frozen=True)
class AdjustedEnergy(Detector[Levels]):
    """Free energy, raised where an image is nearer to all classes alike than usual photographs.

    Works with a single class.

    Args:
        scale: multiplies cosines, no unit; 100 is what CLIP was trained to.
        weight: how much of the closeness above the ordinary level is added, beta; 0 is `energy`.
    """

    paper: ClassVar[str] = "Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, arXiv:2010.03759"
    uses: ClassVar[frozenset[str]] = frozenset({"background", "support", "negatives"})
    min_classes: ClassVar[int] = 1

    scale: Annotated[float, Ge(1), Le(1000)] = 100.0
    weight: Annotated[float, Ge(0), Le(1)] = 0.75

    def learn(self, task: Task) -> Levels:
        """Compute the mean class and the ordinary level."""
        classes = task.classes.embeddings
        centre = mean_class(classes, task)
        negatives = None if task.negatives is None else task.negatives.to(classes.device)
        return Levels(classes, centre, self._level(centre, task), negatives)

    def score(self, images: ImageFeatures, state: Levels) -> Float[Tensor, " n"]:
        """-E(x), plus what lies above the ordinary level, plus what negatives add; higher is more OOD."""
        least = energy(images.pooled @ state.classes.T, self.scale)
        near_all = images.pooled @ state.centre
        if state.level is None:
            score = least + WITHOUT_LEVEL * near_all
        else:
            score = least + self.weight * (near_all - state.level).clamp(min=0)
        if state.negatives is None or not len(state.negatives):
            return score
        nearer = least - energy(images.pooled @ state.negatives.embeddings.T, self.scale)
        return score + PULL * (nearer - MARGIN).clamp(min=0)

    def pulled_out_by(self, images: ImageFeatures, state: Levels, top: int) -> list[list[tuple[str, float]]]:
        """Per image the `top` negatives with their shares of one softmax over classes and negatives."""
        if state.negatives is None or not len(state.negatives):
            return super().pulled_out_by(images, state, top)
        return strongest_negatives(images, state.classes, state.negatives, 1 / self.scale, top)

    def _level(self, centre: Float[Tensor, " d"], task: Task) -> float | None:
        if task.support is not None and len(task.support.labels):
            near_all = task.support.features.pooled.to(centre.device).double() @ centre.double()
            n, variance = len(near_all), near_all.var(correction=0)
            spread = ((n * variance + 2 * (PRIOR / self.scale) ** 2) / (n + 2)).sqrt()
            return float(near_all.mean() - spread / 2)
        if task.ordinary is None:
            return None
        return float(task.ordinary.images.to(centre.device).double() @ centre.double())


def mean_class(classes: Float[Tensor, "c d"], task: Task) -> Float[Tensor, " d"]:
    """t: the mean of the class vectors, drawn to the mean of everyday words where there are few classes."""
    words = None if task.ordinary is None else task.ordinary.words
    if len(classes) >= FEW or words is None:
        return classes.mean(dim=0)
    return (classes.sum(dim=0) + FEW * words.to(classes.device)) / (len(classes) + FEW)
