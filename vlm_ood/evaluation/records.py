"""The records of an evaluation: sets of features, scores, comparisons."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from vlm_ood.errors import VectorError
from vlm_ood.metrics import Interval
from vlm_ood.types import ImageFeatures

UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of a set.

    Args:
        images: what identifies each, such as its path below the folder.
        features: of those images.
        labels: (n,) rows of the class bank, -1 where unknown; by default unknown for all.
        errors: {image: why it could not be encoded}; these images are in none of the others.
    """

    images: tuple[str, ...]
    features: ImageFeatures
    labels: Int[np.ndarray, " n"] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = np.full(len(self.images), UNLABELLED) if self.labels is None else self.labels
        object.__setattr__(self, "labels", labels)
        if not len(self.images) == len(self.features) == len(labels):
            raise VectorError(
                f"{len(self.images)} images, {len(self.features)} features, {len(labels)} labels: give one of each"
            )


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """A named set of images, a part at a time, so that patch features of a large set need not fit into memory.

    Args:
        name: as the tables show it.
        parts: read once.
    """

    name: str
    parts: Iterable[Part]

    @staticmethod
    def of(
        name: str,
        features: ImageFeatures,
        *,
        images: Sequence[str] | None = None,
        labels: Int[Tensor, " n"] | None = None,
    ) -> "FeatureSet":
        """A set from features alone; images without names are called "row 0", "row 1", ..."""
        names = tuple(images or (f"row {row}" for row in range(len(features))))
        return FeatureSet(name, [Part(names, features, None if labels is None else labels.cpu().numpy())])


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """A set after scoring.

    Args:
        name: of the set.
        images: those that were scored, n of them.
        labels: (n,) rows of the class bank, -1 where unknown.
        predicted: (n,) rows of the nearest class.
        scores: {method: (n,) higher is more OOD}.
        errors: {image: why it was left out}.
    """

    name: str
    images: tuple[str, ...]
    labels: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    scores: Mapping[str, Float[np.ndarray, " n"]]
    errors: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Comparison:
    """How well one method tells the ID set from one OOD set; every figure in [0, 1].

    Args:
        method: as it was asked for.
        ood: name of the OOD set, or "mean" for the plain mean over the sets.
        auroc: the chance that an OOD image scores above an ID image, ties counting half.
        fpr_at_95_id: the share of OOD accepted by the tightest threshold that accepts at least 95 % of ID, as in the
            CLIP papers; lower is better.
        fpr_at_95_nearest: the share of OOD accepted by the threshold that accepts a share of ID nearest to 95 %, above
            or below, as the code of MCM, GL-MCM, NegLabel, CSP and LoCoOp prints it.
        fpr_at_95_ood: the share of ID rejected by a threshold that catches at least 95 % of OOD, as in OpenOOD.
        aupr_in: area under precision and recall with ID as positive; depends on the sizes of the sets.
        aupr_out: the same with OOD as positive.
        detection_accuracy: mean of the shares of ID accepted and OOD rejected, at the best threshold for these scores.
        oscr: area under the share of ID accepted and classified correctly, over the share of OOD accepted; of the
            labelled ID images, None without any. It has no interval.
        intervals: {name of a figure: its bootstrap interval}; empty when none were asked for.
    """

    method: str
    ood: str
    auroc: float
    fpr_at_95_id: float
    fpr_at_95_nearest: float
    fpr_at_95_ood: float
    aupr_in: float
    aupr_out: float
    detection_accuracy: float
    oscr: float | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)


FIGURES = (
    "auroc",
    "fpr_at_95_id",
    "fpr_at_95_nearest",
    "fpr_at_95_ood",
    "aupr_in",
    "aupr_out",
    "detection_accuracy",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The whole result.

    Args:
        methods: in the order in which they were given.
        classes: names of the ID classes.
        id_set: the ID images.
        ood_sets: the OOD images.
        comparisons: one per method and OOD set with images in it, sets outermost.
        accuracy: the share of labelled ID images whose nearest class is the right one; None without labels.
        accuracy_interval: its bootstrap interval, when asked for.
        skipped: {method: why it was left out}.
    """

    methods: tuple[str, ...]
    classes: tuple[str, ...]
    id_set: ScoredSet
    ood_sets: tuple[ScoredSet, ...]
    comparisons: tuple[Comparison, ...]
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    def means(self) -> tuple[Comparison, ...]:
        """For each method the plain mean over the OOD sets, whatever their sizes."""
        return tuple(self._mean(method) for method in self.methods)

    def _mean(self, method: str) -> Comparison:
        of_method = [each for each in self.comparisons if each.method == method]
        figures = {name: float(np.mean([getattr(each, name) for each in of_method])) for name in FIGURES}
        rates = [each.oscr for each in of_method if each.oscr is not None]
        rate = float(np.mean(rates)) if rates else None
        return Comparison(method, "mean", **figures, oscr=rate, intervals={})
