"""Records of requests and answers about banks."""

from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator, Discriminator, Field, RootModel, Tag

from service import ceilings
from service.http.records import Answered, Asked, Identifier, Name, TemplatesField
from service.images.answers import ImageAnswer

BankKind = Literal["text", "support"]
State = Literal["cold", "preparing", "ready", "failed"]


class BankReference(Asked):
    """A reference to a bank of /v1/banks, in place of names or images."""

    bank: Annotated[Identifier, Field(description="Its id.", examples=["bnk_3f0c0d7c9d2e4b6f8a1b2c3d"])]


def or_bank(tag: str) -> Discriminator:
    """Distinguishes a bank reference from inline content, so that errors are about the form that was sent."""

    def kind(value: object) -> str:
        return "bank" if isinstance(value, BankReference) or (isinstance(value, dict) and "bank" in value) else tag

    return Discriminator(kind)


def _some_names(description: str, most: int, *example: str) -> Any:
    """What is said of a list of names, of which there must be one."""
    return Field(description=description, fail_fast=True, min_length=1, max_length=most, examples=[list(example)])


ClassNames = Annotated[list[Name], _some_names("Class names.", ceilings.CLASSES, "cat", "coffee", "rocket")]
Words = Annotated[list[Name], Field(fail_fast=True, max_length=ceilings.WORDS)]
Restriction = Annotated[list[Name], Field(fail_fast=True, max_length=ceilings.RESTRICTIONS)]
Classes = Annotated[Annotated[ClassNames, Tag("names")] | Annotated[BankReference, Tag("bank")], or_bank("names")]


class BankOptions(Asked):
    """Options of every bank."""

    label: Annotated[Name, Field(description="A note for people; not a part of the content.", examples=["animals"])] = (
        ""
    )
    encoder: Annotated[
        Identifier | None, Field(description="The encoder of the vectors; by default the first of /v1/encoders.")
    ] = None


class SupportOptions(BankOptions):
    """Options of labelled images: the fields of a form with the files `images`."""

    labels: Annotated[list[Name], _some_names("One class name per image, in order.", ceilings.IMAGES, "cat")]


class TemplatesJson(BankOptions):
    """A bank of one vector per name, averaged over templates."""

    kind: Literal["templates"]
    names: ClassNames
    templates: TemplatesField = "single"


class MinedJson(BankOptions):
    """A bank of words of a lexicon that are dissimilar to the classes; options as in `vlm-ood mine`."""

    kind: Literal["mined"]
    classes: Classes
    templates: Annotated[TemplatesField, Field(description="Templates of the class names.")] = "single"
    negative_templates: Annotated[
        TemplatesField | None, Field(description="Templates of the words; by default those of the recipe.")
    ] = None
    recipe: Annotated[Identifier, Field(description="How words are selected.", examples=["neglabel"])] = "neglabel"
    lexicon: Annotated[Identifier, Field(description="One of /v1/lexicons.")] = "wordnet-full"
    words: Annotated[Words | None, Field(description="Your own words in place of a lexicon.")] = None
    only: Restriction = Field(default=[], description="Lexicographer files to keep, such as noun.animal.")
    under: Restriction = Field(default=[], description="Synsets whose words are kept, such as animal.n.01.")
    not_under: Restriction = Field(default=[], description="Synsets whose words are left out.")
    quantile: Annotated[
        float, Gt(0), Le(1), Field(description="Which quantile of a word's cosines to the classes counts.")
    ] = 0.95
    keep: Annotated[float, Gt(0), Le(1), Field(description="The share of the words that are kept.")] = 0.15
    synonyms: Annotated[bool, Field(description="Also leave out synonyms of the class names.")] = True
    seed: Annotated[int, Ge(0), Lt(2**63), Field(description="Seed of csp's random superclasses.")] = 0
    draw: Annotated[
        Identifier, Field(description="How superclasses are drawn: by_word or in_turn.", examples=["by_word"])
    ] = "by_word"
    overlap: Annotated[
        Identifier,
        Field(description="Whether a word that is noun and adjective counts as noun or adj.", examples=["noun"]),
    ] = "noun"
    class_neighbours: Annotated[
        int,
        Ge(0),
        Le(1000),
        Field(description="The number of words nearest to each class that count as classes in the mining."),
    ] = 0


def _made_elsewhere(value: object) -> object:
    if isinstance(value, dict) and value.get("kind") == "no-tower":
        raise ValueError(
            "the server can't make a bank of a CLIPN text tower: make it with `vlm-ood clipn-bank` and upload the file"
        )
    return value


class BankJson(
    RootModel[Annotated[TemplatesJson | MinedJson, Field(discriminator="kind"), BeforeValidator(_made_elsewhere)]]
):
    """A JSON request for a bank that the server makes."""


class BankSummary(Answered):
    """A bank in a list."""

    id: Annotated[str, Field(examples=["bnk_3f0c0d7c9d2e4b6f8a1b2c3d"])]
    kind: Annotated[BankKind, Field(description="text: names; support: labelled images.")]
    label: str
    encoder: str
    rows: Annotated[int | None, Field(description="Names or images; null until a mined bank is made.")]
    dim: int
    digest: Annotated[str, Field(description="Of the content.")]
    created_at: datetime


class Near(Answered):
    """A neighbour of a name."""

    name: str
    cosine: float


class PreviewRow(Answered):
    """A name and its nearest names by cosine."""

    name: str
    nearest: list[Near]


class BankView(BankSummary):
    """A bank with its content, state and preview."""

    state: Annotated[State, Field(description="cold: stored, prepared at the next use")]
    error: str | None
    spec: Annotated[dict[str, Any] | None, Field(description="The spec it is made from; null when it was uploaded.")]
    preview: Annotated[
        list[PreviewRow] | None,
        Field(description="The first names with their nearest names; null for images, or until the bank is made."),
    ] = None
    images_per_class: Annotated[dict[str, int] | None, Field(description="Number of labelled images per class.")] = None
    failed: list[ImageAnswer] = Field(default=[], description="Images that could not be used.")


class BankPage(Answered):
    """One page of the list of banks, newest first."""

    banks: list[BankSummary]
    next: Annotated[str | None, Field(description="Pass it as `after` for the next page; null on the last.")]
