"""How a calibration is made, and what is told about one."""

from datetime import datetime
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field

from service.http.records import Answered, Asked, Images
from service.scoring.answers import ImageAnswer


class CalibrationView(Answered):
    """What a calibration says."""

    keep: float
    threshold: float
    images: int
    created_at: datetime


class CalibrationOptions(Asked):
    """How a calibration is made."""

    keep: Annotated[
        float, Ge(0.5), Le(0.9999), Field(description="Share of the images that belong that are to be accepted.")
    ] = 0.95
    rule: Annotated[
        Literal["auto", "empirical", "conformal"],
        Field(
            description="conformal: with the finite-sample guarantee; empirical: of these very images; auto: conformal "
            "where there are enough images, else empirical with a note."
        ),
    ] = "auto"
    append: Annotated[bool, Field(description="Add to the images given before; else replace them.")] = False


class CalibrationJson(Images, CalibrationOptions):
    """Images that belong, in base64."""


class CalibrationAnswer(Answered):
    """A calibration, and what happened to the images it was made of."""

    detector: str
    keep: float
    rule: Annotated[Literal["empirical", "conformal"], Field(description="That gave the threshold.")]
    threshold: float
    tolerance: Annotated[
        float, Field(description="An image is out when its score is above the threshold by more than this.")
    ]
    images: Annotated[int, Field(description="How many images the threshold rests on.")]
    note: Annotated[
        str | None, Field(description="What to know before relying on it: how many images a guarantee needs.")
    ]
    failed: Annotated[list[ImageAnswer], Field(description="Images that could not be used.")] = []  # noqa: RUF012
