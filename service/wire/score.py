"""What a score request holds and what it answers."""

import base64
import binascii
from typing import Annotated, Literal, Self

from annotated_types import Ge, Le, Len
from pydantic import Field, model_validator

from service.wire.common import Answered, Asked, Name
from service.wire.detectors import DetectorOptions
from vlm_ood.errors import ImageError

Decision = Literal["in", "out"]


class ImageSource(Asked):
    """One image of a JSON request: base64 content, or a URL where the server allows that."""

    name: Annotated[Name | None, Field(examples=["cat.jpg"])] = None
    content: Annotated[str | None, Field(description="The file in base64.", examples=["iVBORw0KGgo="])] = None
    url: Annotated[str | None, Field(description="Off by default.", max_length=2048)] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.content is None) == (self.url is None):
            raise ValueError("give either content or url")
        return self

    def decoded(self) -> bytes:
        """The file.

        Raises:
            ImageError: not base64.
        """
        try:
            return base64.b64decode(self.content or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"content is not base64: {error}") from None


class AnswerOptions(Asked):
    """What to say about each image."""

    top: Annotated[int, Ge(1), Le(100), Field(description="How many classes and negatives to name.")] = 3
    threshold: Annotated[
        float | None, Field(description="Decide by this score in place of a calibration.", examples=[None])
    ] = None


class ScoreOptions(AnswerOptions, DetectorOptions):
    """A detector given with the images."""


class Images(Asked):
    """The images of a JSON request."""

    images: Annotated[list[ImageSource], Len(min_length=1)]


class ScoreJson(Images, ScoreOptions):
    """Images in base64, class names, and how to score them."""


class DetectorScoreJson(Images, AnswerOptions):
    """Images in base64 for a detector that exists."""


class CalibrationOptions(Asked):
    """How a calibration is made."""

    keep: Annotated[
        float, Ge(0.5), Le(0.9999), Field(description="Share of the images that belong that are to be accepted.")
    ] = 0.95
    rule: Annotated[
        Literal["empirical", "conformal"], Field(description="conformal: with the finite-sample guarantee.")
    ] = "empirical"
    append: Annotated[bool, Field(description="Add to the images given before; else replace them.")] = False


class CalibrationJson(Images, CalibrationOptions):
    """Images that belong, in base64."""


class NearestView(Answered):
    """A name and its share of the probability."""

    name: str
    probability: float


class ItemError(Answered):
    """Why one image has no answer; the others have theirs."""

    code: Annotated[str, Field(examples=["image"])]
    message: str


class ImageAnswer(Answered):
    """The answer about one image."""

    index: int
    image: Annotated[str, Field(examples=["cat.jpg"])]
    score: Annotated[float | None, Field(description="Higher is more out of distribution.", examples=[0.31])] = None
    decision: Decision | None = None
    reason: str = ""
    threshold: float | None = None
    p_value: Annotated[float | None, Field(description="Conformal, in (0, 1]; null without a calibration.")] = None
    classes: list[NearestView] = []  # noqa: RUF012
    negatives: list[NearestView] = []  # noqa: RUF012
    error: ItemError | None = None


class ScoreAnswer(Answered):
    """One answer an image, in the order they were sent."""

    method: str
    encoder: str
    detector: Annotated[str | None, Field(description="Its id; null when it was given with the images.")]
    results: list[ImageAnswer]


class CalibrationAnswer(Answered):
    """A calibration, and what happened to the images it was made of."""

    detector: str
    keep: float
    threshold: float
    images: Annotated[int, Field(description="How many images the threshold rests on.")]
    failed: Annotated[list[ImageAnswer], Field(description="Images that could not be used.")] = []  # noqa: RUF012
