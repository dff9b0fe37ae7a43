"""Records of methods, encoders, templates and lexicons, as the API lists them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.http.records import Answered


class MethodView(Answered):
    """A scoring method."""

    name: Annotated[str, Field(examples=["mcm"])]
    default: Annotated[bool, Field(description="Whether a request that names no method gets this one.")]
    summary: str
    paper: str
    needs: Annotated[list[str], Field(description="Parts of a task beyond the class names that it can't do without.")]
    uses: Annotated[list[str], Field(description="Parts that it reads where they are given.")]
    needs_patches: bool
    min_classes: int
    min_images: Annotated[int, Field(description="Labelled images that it needs in all.")]
    min_images_per_class: Annotated[
        int, Field(description="Labelled images that each class must have; 0 where only their total counts.")
    ]
    parameters: Annotated[dict[str, Any], Field(description="JSON schema of `parameters`.")]


class EncoderView(Answered):
    """An encoder that requests may name; the optional fields are null until it was loaded."""

    name: Annotated[str, Field(examples=["embedded"])]
    state: Literal["cold", "loading", "ready", "failed"]
    default: bool
    digest: str | None = None
    dim: int | None = None
    scale: float | None = None
    device: str | None = None
    dtype: str | None = None
    capabilities: list[str] = Field(default=[])
    height: int | None = None
    width: int | None = None


class TemplatesView(Answered):
    """A set of templates."""

    name: Annotated[str, Field(examples=["single"])]
    templates: list[str]
    average: str
    source: str
    licence: str


class LexiconView(Answered):
    """A word list to mine negatives from."""

    name: str
    words: int | None = None
    source: str = ""
    licence: str = ""


class Methods(Answered):
    """All methods."""

    methods: list[MethodView]


class Encoders(Answered):
    """All encoders that requests may name."""

    encoders: list[EncoderView]


class TemplateSets(Answered):
    """All sets of templates."""

    templates: list[TemplatesView]


class Lexicons(Answered):
    """All word lists."""

    lexicons: list[LexiconView]
