"""Records of score requests and answers."""

from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import Field

from service.detectors.records import DetectorOptions
from service.http.records import Answered, Asked, Images
from service.images.answers import ImageAnswer
from vlm_ood.selective import Costs


class AnswerOptions(Asked):
    """Options of the answer per image."""

    top: Annotated[int, Ge(1), Le(100), Field(description="How many classes and negatives to list per image.")] = 3
    threshold: Annotated[
        float | None, Field(description="The threshold to decide by, in place of a calibration.", examples=[None])
    ] = None


class CostsField(Asked):
    """What each mistake costs; only the ratios count."""

    wrong: Annotated[float, Ge(0), Le(1e9), Field(description="An ID image accepted with a wrong class.")] = 1.0
    rejected: Annotated[float, Gt(0), Le(1e9), Field(description="An ID image turned away.")] = 0.5
    accepted: Annotated[
        float | None, Ge(0), Le(1e9), Field(description="An OOD image accepted; by default as `rejected`.")
    ] = None


class DetectorAnswerOptions(AnswerOptions):
    """Options of the answer per image of a stored detector."""

    costs: Annotated[
        CostsField | None,
        Field(description="Costs of mistakes, for an `action` per image; the detector must be calibrated."),
    ] = None


def costs_of(options: DetectorAnswerOptions) -> Costs | None:
    """The costs of a request."""
    return None if options.costs is None else Costs(**options.costs.model_dump())


class ScoreOptions(AnswerOptions, DetectorOptions):
    """The content of a detector, sent with the images."""


class ScoreJson(Images, ScoreOptions):
    """A JSON request: images in base64, class names, and how to score."""


class DetectorScoreJson(Images, DetectorAnswerOptions):
    """A JSON request: images in base64 for a stored detector."""


class ScoreAnswer(Answered):
    """One answer per image, in the order of the request."""

    method: str
    encoder: str
    detector: Annotated[
        str | None, Field(description="Id of the stored detector; null when its content was sent with the images.")
    ]
    results: list[ImageAnswer]
