"""Records of requests and answers about detectors."""

from datetime import datetime
from typing import Annotated, Any, Final

from annotated_types import Gt, Le, Len
from pydantic import AfterValidator, Field, Tag

from service import ceilings
from service.banks.records import BankReference, Classes, State, Words, or_bank
from service.http.records import Answered, Asked, Identifier, TemplatesField
from vlm_ood.detectors import DEFAULT

DEPTH: Final = 3  # lists and objects within a parameter


def _shallow(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters, if none has more than `PARAMETERS` values on a level or is nested deeper than `DEPTH`."""
    level: list[Any] = [*parameters.values()]
    for _ in range(DEPTH):
        below = [list(value.values()) if isinstance(value, dict) else value for value in level]
        level = [each for value in below if isinstance(value, list) for each in value]
        if len(level) > ceilings.PARAMETERS:
            raise ValueError(f"{len(level):,} values in lists and objects, the limit is {ceilings.PARAMETERS}")
    if any(isinstance(value, list | dict) for value in level):
        raise ValueError(f"nested deeper than {DEPTH}: give lists and objects of fewer levels")
    return parameters


class Negatives(Asked):
    """Negative words, mined from a lexicon: those that are dissimilar to the classes."""

    recipe: Annotated[Identifier, Field(description="How words are selected.", examples=["neglabel"])] = "neglabel"
    lexicon: Annotated[Identifier, Field(description="One of /v1/lexicons.")] = "wordnet-full"
    words: Annotated[Words | None, Field(description="Your own words in place of a lexicon.")] = None
    quantile: Annotated[
        float, Gt(0), Le(1), Field(description="Which quantile of a word's cosines to the classes counts.")
    ] = 0.95
    keep: Annotated[float, Gt(0), Le(1), Field(description="The share of the words that are kept.")] = 0.15


AnyNegatives = Annotated[Annotated[Negatives, Tag("mined")] | Annotated[BankReference, Tag("bank")], or_bank("mined")]


class DetectorOptions(Asked):
    """The content of a detector; the same content has the same id."""

    classes: Classes
    method: Annotated[Identifier, Field(description="One of /v1/methods.", examples=["mcm"])] = DEFAULT
    parameters: Annotated[
        dict[str, Any],
        Len(0, ceilings.PARAMETERS),
        AfterValidator(_shallow),
        Field(
            description="Parameters of the method; /v1/methods has their schema.",
            examples=[{"temperature": 1.0}],
            json_schema_extra={"propertyNames": {"maxLength": ceilings.FIELD_NAME_CHARACTERS}},
        ),
    ] = Field(default={})
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
