"""The record of the answer per image."""

from typing import Annotated, Literal

from pydantic import Field

from service.http.body import Upload
from service.http.records import Answered
from service.problems import problem_type_of
from vlm_ood.errors import VlmOodError

Decision = Literal["in", "out"]


class NearestView(Answered):
    """A class or a negative word, and its probability in [0, 1]."""

    name: str
    probability: float


class ItemError(Answered):
    """Why one image has no answer; the others have theirs."""

    code: Annotated[str, Field(examples=["image"])]
    message: str


class ImageAnswer(Answered):
    """The answer for one image; without an error it has a score."""

    index: int
    image: Annotated[str, Field(examples=["cat.jpg"])]
    score: Annotated[float | None, Field(description="Higher is more out-of-distribution.", examples=[0.31])] = None
    decision: Decision | None = None
    reason: str = ""
    threshold: float | None = None
    p_value: Annotated[float | None, Field(description="Conformal, in (0, 1]; null without a calibration.")] = None
    classes: list[NearestView] = Field(default=[])
    negatives: list[NearestView] = Field(default=[])
    action: Annotated[
        Literal["accept", "abstain", "reject"] | None, Field(description="By the costs of the request; null without.")
    ] = None
    action_reason: str = ""
    error: ItemError | None = None


def failure(row: int, upload: Upload, error: VlmOodError) -> ImageAnswer:
    """The answer for an image that can't be used: index, name and error."""
    return ImageAnswer(
        index=row, image=upload.name, error=ItemError(code=problem_type_of(error).slug, message=str(error))
    )
