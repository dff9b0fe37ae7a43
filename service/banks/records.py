"""What makes a bank, and what is told about one."""

from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import BeforeValidator, Discriminator, Field, RootModel, Tag

from service.http.records import Answered, Asked, Identifier, Name, Templates
from service.images.answers import ImageAnswer

BankKind = Literal["text", "support"]
State = Literal["cold", "preparing", "ready", "failed"]


class BankReference(Asked):
    """A bank of /v1/banks in the place of what it is made from."""

    bank: Annotated[Identifier, Field(description="Its id.", examples=["bnk_3f0c0d7c9d2e4b6f8a1b2c3d"])]


def or_bank(tag: str) -> Discriminator:
    """Tells a part from a bank in its place, so that what is wrong is told about the one that was meant."""

    def kind(value: object) -> str:
        return "bank" if isinstance(value, BankReference) or (isinstance(value, dict) and "bank" in value) else tag

    return Discriminator(kind)


ClassNames = Annotated[
    list[Name], Len(min_length=1), Field(description="Names of what belongs.", examples=[["cat", "coffee", "rocket"]])
]
Classes = Annotated[Annotated[ClassNames, Tag("names")] | Annotated[BankReference, Tag("bank")], or_bank("names")]


class BankOptions(Asked):
    """What every bank has."""

    label: Annotated[Name, Field(description="For people; not a part of the content.", examples=["animals"])] = ""
    encoder: Annotated[
        Identifier | None, Field(description="Whose vectors these are; by default the first of /v1/encoders.")
    ] = None


class SupportOptions(BankOptions):
    """Labelled images: the form's fields beside its files `images`."""

    labels: Annotated[
        list[Name], Len(min_length=1), Field(description="One class name per image, in order.", examples=[["cat"]])
    ]


class TemplatesJson(BankOptions):
    """One vector per name, averaged over templates."""

    kind: Literal["templates"]
    names: ClassNames
    templates: Templates = "single"


class MinedJson(BankOptions):
    """Words of a lexicon that are unlike the classes; arguments as of `vlm-ood mine`."""

    kind: Literal["mined"]
    classes: Classes
    templates: Annotated[Templates, Field(description="Of the class names.")] = "single"
    negative_templates: Annotated[Templates | None, Field(description="Of the words; by default the recipe's.")] = None
    recipe: Annotated[Identifier, Field(description="How words are chosen.", examples=["neglabel"])] = "neglabel"
    lexicon: Annotated[Identifier, Field(description="One of /v1/lexicons.")] = "wordnet-full"
    words: Annotated[list[Name] | None, Field(description="Your own words in place of a lexicon.")] = None
    only: Annotated[list[Name], Field(description="Lexicographer files to keep, such as noun.animal.")] = []  # noqa: RUF012
    under: Annotated[list[Name], Field(description="Synsets whose words are kept, such as animal.n.01.")] = []  # noqa: RUF012
    not_under: Annotated[list[Name], Field(description="Synsets whose words are left out.")] = []  # noqa: RUF012
    quantile: Annotated[float, Gt(0), Le(1), Field(description="Of a word's similarity to the classes.")] = 0.95
    keep: Annotated[float, Gt(0), Le(1), Field(description="Share of the words that is kept.")] = 0.15
    synonyms: Annotated[bool, Field(description="Leave out synonyms of the class names, too.")] = True
    seed: Annotated[int, Ge(0), Lt(2**63), Field(description="Of csp's draw of superclasses.")] = 0
    draw: Annotated[Identifier, Field(description="How they are drawn: by_word or in_turn.", examples=["by_word"])] = (
        "by_word"
    )
    overlap: Annotated[
        Identifier, Field(description="What a word counts as that is noun and adjective.", examples=["noun"])
    ] = "noun"
    class_neighbours: Annotated[
        int, Ge(0), Le(1000), Field(description="Words near each class that count as classes in the mining.")
    ] = 0


def _made_elsewhere(value: object) -> object:
    if isinstance(value, dict) and value.get("kind") == "no-tower":
        raise ValueError(
            "a bank of a CLIPN tower can't be made here, for the tower runs beside its encoder: write it with "
            "`vlm-ood clipn-bank` and upload the file"
        )
    return value


class BankJson(
    RootModel[Annotated[TemplatesJson | MinedJson, Field(discriminator="kind"), BeforeValidator(_made_elsewhere)]]
):
    """A bank that the server makes."""


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
    """A row that lies close to another."""

    name: str
    cosine: float


class PreviewRow(Answered):
    """A name, and the names whose vectors are most like its own."""

    name: str
    nearest: list[Near]


class BankView(BankSummary):
    """All there is to know about a bank."""

    state: Annotated[State, Field(description="cold: stored, and prepared when it is asked for")]
    error: str | None
    spec: Annotated[dict[str, Any] | None, Field(description="What it is made from; null when it was uploaded.")]
    preview: Annotated[
        list[PreviewRow] | None,
        Field(description="First names with their nearest; null of images, or until it is made."),
    ] = None
    images_per_class: Annotated[dict[str, int] | None, Field(description="Of labelled images.")] = None
    failed: Annotated[list[ImageAnswer], Field(description="Images that could not be used.")] = []  # noqa: RUF012


class BankPage(Answered):
    """Some banks, newest first."""

    banks: list[BankSummary]
    next: Annotated[str | None, Field(description="Pass it as `after` for the next page; null on the last.")]
