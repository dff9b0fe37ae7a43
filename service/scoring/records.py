"""What a score request holds and what it answers."""

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import Field

from service.detectors.records import DetectorOptions
from service.http.records import Asked, Images


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
