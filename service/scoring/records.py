"""Records of score requests and answers."""

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import Field

from service.detectors.records import DetectorOptions
from service.http.records import Answered, Asked, Images
from service.images.answers import ImageAnswer


class AnswerOptions(Asked):
    """Options of the answer per image."""

    top: Annotated[int, Ge(1), Le(100), Field(description="How many classes and negatives to list per image.")] = 3
    threshold: Annotated[
        float | None, Field(description="The threshold to decide by, in place of a calibration.", examples=[None])
    ] = None


class ScoreOptions(AnswerOptions, DetectorOptions):
    """The content of a detector, sent with the images."""


class ScoreJson(Images, ScoreOptions):
    """A JSON request: images in base64, class names, and how to score."""


class DetectorScoreJson(Images, AnswerOptions):
    """A JSON request: images in base64 for a stored detector."""


class ScoreAnswer(Answered):
    """One answer per image, in the order of the request."""

    method: str
    encoder: str
    detector: Annotated[
        str | None, Field(description="Id of the stored detector; null when its content was sent with the images.")
    ]
    results: list[ImageAnswer]
