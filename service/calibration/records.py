"""Records of requests and answers about calibrations."""

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field

from service.detectors.records import CalibrationView
from service.http.records import Answered, Asked, Images
from service.images.answers import ImageAnswer


class CalibrationOptions(Asked):
    """Options of a calibration."""

    keep: Annotated[
        float, Ge(0.5), Le(0.9999), Field(description="Share of in-distribution (ID) images to accept.")
    ] = 0.95
    rule: Annotated[
        Literal["auto", "empirical", "conformal"],
        Field(
            description="conformal: accepts at least this share of new ID images on average; empirical: accepts this "
            "share of the images sent; auto: conformal where there are enough images, else empirical with a note."
        ),
    ] = "auto"
    append: Annotated[bool, Field(description="Add to the images sent before; otherwise replace them.")] = False


class CalibrationJson(Images, CalibrationOptions):
    """A JSON request: ID images in base64, and the options."""


class Threshold(Answered):
    """How the threshold was computed, and how it is applied."""

    rule: Annotated[Literal["empirical", "conformal"], Field(description="The rule that computed the threshold.")]
    tolerance: Annotated[
        float,
        Field(description="An image is out-of-distribution when its score is above the threshold by more than this."),
    ]
    note: Annotated[str | None, Field(description="Why there is no guarantee: how many images it needs.")]


class CalibrationDetails(CalibrationView, Threshold):
    """A stored calibration."""


class CalibrationAnswer(Threshold):
    """A new calibration, and the images that could not be used for it."""

    detector: str
    keep: float
    threshold: float
    images: Annotated[int, Field(description="The number of images the threshold was computed from.")]
    failed: list[ImageAnswer] = Field(default=[], description="Images that could not be used.")
