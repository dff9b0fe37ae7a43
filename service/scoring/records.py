"""Records of score requests and answers."""

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import Field

from service.detectors.records import DetectorOptions
from service.http.records import Answered, Asked, Images
from service.images.answers import ImageAnswer


class AnswerOptions(Asked):
    """What to say about each image."""

    top: Annotated[int, Ge(1), Le(100), Field(description="How many classes and negatives to name.")] = 3
    threshold: Annotated[
        float | None, Field(description="Decide by this score in place of a calibration.", examples=[None])
    ] = None


class ScoreOptions(AnswerOptions, DetectorOptions):
    """A detector given with the images."""


class ScoreJson(Images, ScoreOptions):
    """Images in base64, class names, and how to score them."""


class DetectorScoreJson(Images, AnswerOptions):
    """Images in base64 for a detector that exists."""


class ScoreAnswer(Answered):
    """One answer per image, in the order they were sent."""

    method: str
    encoder: str
    detector: Annotated[str | None, Field(description="Its id; null when it was given with the images.")]
    results: list[ImageAnswer]
