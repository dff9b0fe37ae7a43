"""The wire records of calibrations."""

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field

from service.detectors.records import CalibrationView
from service.http.records import Answered, Asked, Images
from service.images.answers import ImageAnswer


class CalibrationOptions(Asked):
    """What a calibration is made with."""

    keep: Annotated[
        float, Ge(0.5), Le(0.9999), Field(description="Share of in-distribution (ID) images to accept.")
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
    """ID images in base64, and what to calibrate with."""


class Threshold(Answered):
    """What the scores of a calibration give."""

    rule: Annotated[Literal["empirical", "conformal"], Field(description="That gave the threshold.")]
    tolerance: Annotated[
        float, Field(description="An image is out when its score is above the threshold by more than this.")
    ]
    note: Annotated[
        str | None, Field(description="What to know before relying on it: how many images a guarantee needs.")
    ]


class CalibrationDetails(CalibrationView, Threshold):
    """All there is to know about a calibration."""


class CalibrationAnswer(Threshold):
    """A new calibration, and the images that could not be used for it."""

    detector: str
    keep: float
    threshold: float
    images: Annotated[int, Field(description="How many images the threshold rests on.")]
    failed: Annotated[list[ImageAnswer], Field(description="Images that could not be used.")] = []  # noqa: RUF012
