"""Records of requests and answers about detectors."""

from datetime import datetime
from typing import Annotated, Any

from annotated_types import Gt, Le
from pydantic import Field, Tag

from service.banks.records import BankReference, Classes, State, or_bank
from service.http.records import Answered, Asked, Identifier, Name, TemplatesField


class Negatives(Asked):
    """Negative words, mined from a lexicon: those that are dissimilar to the classes."""

    recipe: Annotated[Identifier, Field(description="How words are selected.", examples=["neglabel"])] = "neglabel"
    lexicon: Annotated[Identifier, Field(description="One of /v1/lexicons.")] = "wordnet-full"
    words: Annotated[list[Name] | None, Field(description="Your own words in place of a lexicon.")] = None
    quantile: Annotated[
        float, Gt(0), Le(1), Field(description="Which quantile of a word's cosines to the classes counts.")
    ] = 0.95
    keep: Annotated[float, Gt(0), Le(1), Field(description="The share of the words that are kept.")] = 0.15


AnyNegatives = Annotated[Annotated[Negatives, Tag("mined")] | Annotated[BankReference, Tag("bank")], or_bank("mined")]


class DetectorOptions(Asked):
    """The content of a detector; the same content has the same id."""

    classes: Classes
    method: Annotated[Identifier, Field(description="One of /v1/methods.", examples=["mcm"])] = "mcm"
    parameters: dict[str, Any] = Field(
        default={},
        description="Parameters of the method; /v1/methods has their schema.",
        examples=[{"temperature": 1.0}],
    )
    templates: TemplatesField = "single"
    encoder: Annotated[
        Identifier | None, Field(description="One of /v1/encoders; by default the first.", examples=["embedded"])
    ] = None
    negatives: Annotated[AnyNegatives | None, Field(description="For methods that need negatives.")] = None
    no_templates: Annotated[
        TemplatesField | None,
        Field(description="Templates that negate a class, for methods that need negated prompts."),
    ] = None
    no: Annotated[BankReference | None, Field(description="A bank of negated prompts, in place of `no_templates`.")] = (
        None
    )
    support: Annotated[BankReference | None, Field(description="Labelled images, for methods that need support.")] = (
        None
    )


class CalibrationView(Answered):
    """The threshold of a detector, and the number of images it was computed from."""

    keep: float
    threshold: float
    images: int
    created_at: datetime


class DetectorSummary(Answered):
    """A detector in a list."""

    id: Annotated[str, Field(examples=["det_3f0c0d7c9d2e4b6f8a1b2c3d"])]
    method: str
    encoder: str
    class_count: int
    calibrated: bool
    created_at: datetime


class DetectorView(DetectorSummary):
    """A detector with its content, state and calibration."""

    classes: list[str] | BankReference
    parameters: dict[str, Any]
    templates: str | list[str] | None
    negatives: Negatives | BankReference | None
    no_templates: str | list[str] | None
    no: BankReference | None
    support: BankReference | None
    state: Annotated[State, Field(description="cold: stored, prepared at the next use")]
    error: str | None
    calibration: CalibrationView | None
    note: Annotated[str | None, Field(description="A hint about the calibration: why there is none.")]


class DetectorPage(Answered):
    """One page of the list of detectors, newest first."""

    detectors: list[DetectorSummary]
    next: Annotated[str | None, Field(description="Pass it as `after` for the next page; null on the last.")]
