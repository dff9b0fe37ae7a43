"""The contract of every detector: hyper-parameters in a frozen record, `learn` once, `score` many times.

A detector reads vectors only, whatever made them. A fitted one never changes, so that threads and workers share it
without a lock.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, Final, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from pydantic import ConfigDict
from torch import Tensor

from vlm_ood.detectors.naming import strongest
from vlm_ood.digests import digest_of
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import CapabilityError, ClassNamesError, TaskError, VectorError
from vlm_ood.registry import Registry
from vlm_ood.types import ImageFeatures, Task

State = TypeVar("State")

MAX_NEGATIVES: Final = 100
"""How many negatives are named at most for one image, so that evidence stays small."""

ADDED: Final = {"added": True}
"""Metadata of a parameter that a method was given after its first release: its default is how the method was before."""

registry: "Registry[Detector[Any]]" = Registry("detector", "vlm_ood.detectors")
register = registry.register


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a fitted detector says about n images, as plain values: small enough to leave a device and a process.

    Args:
        scores: (n,), higher is more OOD.
        own_rule: (n,), True for OOD by the method's own threshold-free rule; None for methods without one.
        negatives: per image the negative names that raise its score most, strongest first, each with its
            share of the probability in [0, 1].
    """

    scores: Float32[np.ndarray, " n"]
    own_rule: Bool[np.ndarray, " n"] | None
    negatives: tuple[tuple[tuple[str, float], ...], ...]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: slice) -> "Evidence":
        own_rule = None if self.own_rule is None else self.own_rule[rows]
        return Evidence(self.scores[rows], own_rule, self.negatives[rows])

    @property
    def nbytes(self) -> int:
        """About what it takes, names included."""
        names = sum(len(name) + 100 for named in self.negatives for name, _ in named)
        return names + len(self) * (self.scores.itemsize + 64)

    @staticmethod
    def concatenate(parts: "Sequence[Evidence]") -> "Evidence":
        """What one detector said about several batches, in order; at least one."""
        rules = [part.own_rule for part in parts if part.own_rule is not None]
        return Evidence(
            np.concatenate([part.scores for part in parts]),
            np.concatenate(rules) if rules else None,
            tuple(chain.from_iterable(part.negatives for part in parts)),
        )


@dataclass(frozen=True)
class Detector(ABC, Generic[State]):
    """An OOD score over image features, given a task.

    The class variables say what it is: `name` (its registered name), `paper` (authors, title, venue, year, arXiv
    number), `needs` (the parts of a Task beyond the classes that it can't do without), `uses` (those that it reads
    where they are given), `outputs` (what it reads of an image), `min_classes`, `min_images` and
    `min_images_per_class` (labelled images in all, and of each class), `with_fewer_images` (what else a caller with
    fewer can do), `reads_classes` (False for one that compares images
    with the labelled images alone, never with the vectors of the classes).
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    uses: ClassVar[frozenset[str]] = frozenset()
    outputs: ClassVar[Outputs] = POOLED
    min_classes: ClassVar[int] = 2
    min_images: ClassVar[int] = 0
    min_images_per_class: ClassVar[int] = 0
    with_fewer_images: ClassVar[str] = "use knn, which works with any number"
    reads_classes: ClassVar[bool] = True

    @classmethod
    def reads(cls) -> frozenset[str]:
        """Every part of a task beyond the classes that the method reads where it is given."""
        return cls.needs | cls.uses

    @abstractmethod
    def learn(self, task: Task) -> State:
        """Whatever doesn't depend on the images to be scored; computed once."""

    @abstractmethod
    def score(self, images: ImageFeatures, state: State) -> Float[Tensor, " n"]:
        """One finite number per image, (n,); higher is more OOD; independent of the other images."""

    def decide(self, images: ImageFeatures, state: State) -> Bool[Tensor, " n"] | None:
        """(n,), True for OOD by the method's own threshold-free rule; None for methods without one."""
        return None

    def pulled_out_by(self, images: ImageFeatures, state: State, top: int) -> list[list[tuple[str, float]]]:
        """Per image the `top` negative names that raise its score most, with their probabilities, largest first."""
        return [[] for _ in range(len(images))]

    def fit(self, task: Task) -> "FittedDetector[State]":
        """Bind the detector to a task.

        Raises:
            TaskError: the task lacks something the method needs.
            ClassNamesError: too few classes for the score to mean anything.
        """
        task.require(self.name, self.needs)
        self.check_classes(len(task.classes))
        self.check_images(task)
        return FittedDetector(self, task, self.learn(task))

    def check_classes(self, count: int) -> None:
        """Raise a ClassNamesError when the method needs more classes."""
        if count < self.min_classes:
            raise ClassNamesError(
                f"{self.name} compares at least {self.min_classes} classes, got {count}: "
                "add a class, or use max_cosine, which works with one"
            )

    @property
    def images_needed(self) -> int:
        """Labelled images that the method needs in all, with its parameters."""
        return self.min_images

    def check_images(self, task: Task) -> None:
        """Raise a TaskError when there are fewer labelled images, in all or of a class, than the method needs."""
        if task.support is None:
            return
        count, wanted = len(task.support.labels), self.images_needed
        if count < wanted:
            raise TaskError(
                f"{self.name} needs at least {wanted} labelled image{'s'[: wanted > 1]}, got {count}: add images, or "
                f"{self.with_fewer_images}"
            )
        least = self.min_images_per_class
        counts = torch.bincount(task.support.labels, minlength=len(task.classes)).tolist()
        few = [f"{name} ({count})" for name, count in zip(task.classes.names, counts, strict=True) if count < least]
        if few:
            shown = ", ".join(few[:5]) + (", ..." if len(few) > 5 else "")
            raise TaskError(
                f"{self.name} needs at least {least} labelled image{'s'[: least > 1]} per class, and {len(few)} of "
                f"{len(counts)} classes have fewer: {shown}: add images, leave out these classes, or "
                f"{self.with_fewer_images}"
            )


@dataclass(frozen=True, eq=False)
class FittedDetector(Generic[State]):
    """A detector bound to a task: what `Detector.fit` returns."""

    detector: Detector[State]
    task: Task
    state: State

    @cached_property
    def digest(self) -> str:
        """Of method, hyper-parameters and task: what a calibration belongs to.

        Parameters that were `ADDED` count where they differ from their defaults, so that older calibrations hold.
        """
        added = {each.name: each.default for each in fields(self.detector) if each.metadata.get("added")}
        parameters = asdict(self.detector).items()
        kept = {name: value for name, value in parameters if name not in added or value != added[name]}
        return digest_of(self.detector.name, kept, self.task.digest)

    def score(self, images: ImageFeatures) -> Float[Tensor, " n"]:
        """One fp32 number per image, (n,), on the task's device; higher is more OOD.

        Raises:
            VectorError: images and classes have different dimension.
            CapabilityError: the method reads patches, stages or windows that the features don't hold.
        """
        return self.detector.score(self._checked(images), self.state).float()

    def decide(self, images: ImageFeatures) -> Bool[Tensor, " n"] | None:
        """(n,), True for OOD by the method's own rule; None when the method has none and needs a calibration."""
        return self.detector.decide(self._checked(images), self.state)

    def nearest(self, images: ImageFeatures, top: int = 3, scale: float = 100.0) -> list[list[tuple[str, float]]]:
        """Per image the `top` most probable classes, with probabilities softmax(scale * cosine) over all classes."""
        images = self._checked(images, POOLED)
        classes = self.task.classes
        probabilities = (scale * images.pooled @ classes.embeddings.T).softmax(dim=-1)
        return strongest(classes.names, probabilities, top)

    def pulled_out_by(self, images: ImageFeatures, top: int = 3) -> list[list[tuple[str, float]]]:
        """Per image the `top` negative names that raise its score most, with probabilities; empty without negatives."""
        return self.detector.pulled_out_by(self._checked(images), self.state, top)

    def examine(self, images: ImageFeatures, top: int = 3) -> Evidence:
        """All that the detector says about the images, with `top` negatives each, at most `MAX_NEGATIVES`.

        Raises:
            VectorError, CapabilityError: as `score`.
        """
        images = self._checked(images)
        own_rule = self.detector.decide(images, self.state)
        named = self.detector.pulled_out_by(images, self.state, min(top, MAX_NEGATIVES)) if top else []
        return Evidence(
            self.score(images).cpu().numpy(),
            None if own_rule is None else own_rule.cpu().numpy(),
            tuple(tuple(each) for each in named) or ((),) * len(images),
        )

    def _checked(self, images: ImageFeatures, outputs: Outputs | None = None) -> ImageFeatures:
        if images.pooled.shape[1] != self.task.classes.dim:
            raise VectorError(
                f"images have dimension {images.pooled.shape[1]}, classes {self.task.classes.dim}: "
                "encode both with one encoder"
            )
        missing = (outputs or self.detector.outputs).missing_in(images)
        if missing:
            raise CapabilityError(
                f"{self.detector.name} reads {' and '.join(missing)}, which these features don't hold: encode with "
                f"encode_images(images, {self.detector.outputs}) and an encoder that gives them"
            )
        return images.to(self.task.classes.embeddings.device)


@dataclass(frozen=True)
class CosineDetector(Detector[Float[Tensor, "c d"]]):
    """A detector that needs only the cosines of an image to the classes."""

    @abstractmethod
    def from_cosine(self, cosine: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """The equation: cosines in [-1, 1] to scores, higher is more OOD."""

    def learn(self, task: Task) -> Float[Tensor, "c d"]:
        """The class embeddings."""
        return task.classes.embeddings

    def score(self, images: ImageFeatures, state: Float[Tensor, "c d"]) -> Float[Tensor, " n"]:
        """The equation on the pooled features."""
        return self.from_cosine(images.pooled @ state.T)
