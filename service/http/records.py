"""Types and base classes that the records of requests and answers share."""

import base64
import binascii
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from service import ceilings
from vlm_ood.errors import ImageError

Name = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Template = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
TemplatesField = Annotated[
    Identifier | Annotated[list[Template], Field(fail_fast=True, min_length=1, max_length=ceilings.TEMPLATES)],
    Field(description="A set of /v1/templates, or sentences with one {} each.", examples=["single"]),
]


class Asked(BaseModel):
    """A record of a request; unknown fields are errors, so that a misspelt field is not silently a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Answered(BaseModel):
    """A record of an answer."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class Problem(Answered):
    """An error as a problem of RFC 9457: `type` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, Any]] | None = None


class ImageSource(Asked):
    """One image of a JSON request: base64 content, or a URL where the server allows URLs."""

    name: Annotated[Name | None, Field(examples=["cat.jpg"])] = None
    content: Annotated[
        str | None, Field(description="The file in base64.", max_length=ceilings.JSON_BYTES, examples=["iVBORw0KGgo="])
    ] = None
    url: Annotated[str | None, Field(description="Off by default.", max_length=ceilings.URL_CHARACTERS)] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.content is None) == (self.url is None):
            raise ValueError("give either content or url")
        return self

    def decoded(self) -> bytes:
        """The bytes of the file.

        Raises:
            ImageError: not base64.
        """
        try:
            return base64.b64decode(self.content or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"content is not base64: {error}") from None


class Images(Asked):
    """The images of a JSON request."""

    images: Annotated[list[ImageSource], Field(fail_fast=True, min_length=1, max_length=ceilings.IMAGES)]
