"""The options of requests, and the records in responses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypedDict

from vlm_ood.client.bank_records import AsBank, Bank
from vlm_ood.results import ImageResult
from vlm_ood.tasks import StoredBank


class DetectorOptions(TypedDict, total=False):
    """The options of a detector besides its classes; the server has a default for each.

    Args:
        method: a name of `methods()`.
        parameters: of the method.
        encoder: a name of `encoders()`.
        templates: the name of a set of templates, or a list of templates with one {} each.
        negatives: for methods that need them: {"recipe": ..., "lexicon": ...}, {"words": [...]} or a bank.
        no_templates: templates that negate a class, for methods that need negated prompts.
        no: a bank of negated prompts, instead of `no_templates`.
        support: a bank of labelled images, for methods that need them.
    """

    method: str
    parameters: Mapping[str, Any] | None
    encoder: str | None
    templates: str | Sequence[str] | None
    negatives: Mapping[str, Any] | Bank | None
    no_templates: str | Sequence[str] | None
    no: Bank | None
    support: Bank | None


@dataclass(frozen=True)
class ScoreAnswer:
    """One result per image, in the order of the files.

    Args:
        results: a higher score is more OOD; a file that can't be used has a result with an error.
        encoder: the encoder that the server used; empty when no file could be sent.
        method: the method that the server used.
        note: what a reader must know about the decisions, or None.
        timings: {stage: seconds of the server's work over all requests}.
    """

    results: tuple[ImageResult, ...]
    encoder: str
    method: str
    note: str | None
    timings: Mapping[str, float]


@dataclass(frozen=True)
class CalibrationInfo:
    """A threshold, the share of ID images that it accepts, and the number of images that it was computed from."""

    keep: float
    threshold: float
    images: int
    created_at: datetime | None = None


@dataclass(frozen=True)
class CalibrationAnswer(CalibrationInfo):
    """A new calibration, and the files that could not be used for it.

    Args:
        rule: the rule that gave the threshold: "conformal" or "empirical".
        tolerance: an image is OOD when its score is above the threshold by more than this.
        note: what a reader must know before using it, such as that there are too few images for a guarantee; or None.
        failed: one result per file that could not be used, with its error.
    """

    rule: str | None = None
    tolerance: float = 0.0
    note: str | None = None
    failed: tuple[ImageResult, ...] = ()


@dataclass(frozen=True)
class DetectorInfo:
    """A detector that the server stores; in a list only the first six fields are set."""

    id: str
    method: str
    encoder: str
    class_count: int
    calibrated: bool
    created_at: datetime
    classes: Annotated[tuple[str, ...] | StoredBank, AsBank] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    templates: str | tuple[str, ...] | None = None
    negatives: Annotated[Mapping[str, Any] | StoredBank | None, AsBank] = None
    no_templates: str | tuple[str, ...] | None = None
    no: Annotated[StoredBank | None, AsBank] = None
    support: Annotated[StoredBank | None, AsBank] = None
    state: str | None = None
    error: str | None = None
    calibration: CalibrationInfo | None = None
    note: str | None = None


@dataclass(frozen=True)
class MethodInfo:
    """A method of the server; `parameters` is a JSON schema."""

    name: str
    summary: str
    paper: str
    needs: tuple[str, ...]
    needs_patches: bool
    min_classes: int
    parameters: Mapping[str, Any]
    min_images: int = 0
    min_images_per_class: int = 0


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder of the server; the fields after `default` are set once it was loaded."""

    name: str
    state: str
    default: bool
    digest: str | None = None
    dim: int | None = None
    device: str | None = None
    capabilities: tuple[str, ...] = ()
