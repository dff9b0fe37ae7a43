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
-E(x) + m(x) / 2. Negatives add `PULL` max(0, N(x) - E(x) - `MARGIN`), N being E over the negatives: words that are
clearly nearer than the classes.

Labelled images do two things. Their own m gives the level: m0 = mean - sd / 2, where the variance is shrunk to a prior:
sd^2 = (n var + 2 (PRIOR / s)^2) / (n + 2). And the cosine to p_k, the mean of the n_k images of class k at length 1, is
added to c_k in E, with a weight that grows with their number: w_k = w n_k / (n_k + HALF), w the parameter `prototypes`.
Images of one class are much nearer to each other than to its name, so that a larger w decides by the images alone,
which loses where they are few.

No published score holds on every set: energy fails on textures, MCM on fine-grained sets, the largest cosine in
between. The constants were chosen on CLIP ViT-B/32 vectors of ImageNet, SUN397 and Stanford Cars, and on random
vocabularies of 2 to 100 classes: the mean AUROC is flat in beta from 0.7 to 0.9, and the worst distance to the best
method falls from 0.022 to 0.019; w and `HALF` with one and three images per class. docs/methods.md has the tables.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.energy import energy
from vlm_ood.detectors.neglabel import strongest_negatives
from vlm_ood.detectors.statistics import statistics_of
from vlm_ood.types import ImageFeatures, Task, TextBank

FEW: Final = 10  # classes; with fewer, the mean of everyday words counts as so many classes
WITHOUT_LEVEL: Final = 0.5  # weight of m where no level is known
HALF: Final = 4  # images of a class with which its prototype has half of its full weight
PRIOR: Final = 1.5  # standard deviation of m times the scale, as two images would give it
PULL: Final = 0.25  # weight of negatives
MARGIN: Final = 0.03  # cosine by which negatives must be nearer than the classes


@dataclass(frozen=True, eq=False)
class Levels:
    """What the method learns.

    Args:
        names: (c, d), the vectors of the class names.
        classes: (c, d), what E compares with: the same, each with its share of its prototype added.
        centre: (d,), t.
        level: m0; None where there are neither photographs nor labelled images.
        negatives: None without them.
    """

    names: Float[Tensor, "c d"]
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
        prototypes: the weight of labelled images that it nears with many per class, w; 0 for the class names alone.
    """

    paper: ClassVar[str] = "Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, arXiv:2010.03759"
    uses: ClassVar[frozenset[str]] = frozenset({"background", "support", "negatives"})
    min_classes: ClassVar[int] = 1

    scale: Annotated[float, Ge(1), Le(1000)] = 100.0
    weight: Annotated[float, Ge(0), Le(1)] = 0.85
    prototypes: Annotated[float, Ge(0), Le(10)] = 0.2

    def learn(self, task: Task) -> Levels:
        """Compute the mean class, the ordinary level, and the classes with their prototypes."""
        names = task.classes.embeddings
        centre = mean_class(names, task)
        negatives = None if task.negatives is None else task.negatives.to(names.device)
        return Levels(names, self._with_prototypes(task), centre, self._level(centre, task), negatives)

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
        by_name = energy(images.pooled @ state.names.T, self.scale)
        nearer = by_name - energy(images.pooled @ state.negatives.embeddings.T, self.scale)
        return score + PULL * (nearer - MARGIN).clamp(min=0)

    def pulled_out_by(self, images: ImageFeatures, state: Levels, top: int) -> list[list[tuple[str, float]]]:
        """Per image the `top` negatives with their shares of one softmax over classes and negatives."""
        if state.negatives is None or not len(state.negatives):
            return super().pulled_out_by(images, state, top)
        return strongest_negatives(images, state.names, state.negatives, 1 / self.scale, top)

    def _with_prototypes(self, task: Task) -> Float[Tensor, "c d"]:
        names = task.classes.embeddings
        if task.support is None or not len(task.support.labels):
            return names
        images = statistics_of(task)
        shares = self.prototypes * images.counts / (images.counts + HALF)
        return names + (shares[:, None] * images.prototypes).to(names)

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
