"""Plain records that describe what a text bank is made from; each has one canonical form."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Final

from pydantic import TypeAdapter

from vlm_ood.errors import InputError
from vlm_ood.lexicons import lexicon_from_words, lexicon_named, part_of_speech, restrict
from vlm_ood.negatives import MiningPlan, check_draw, recipe_named
from vlm_ood.text import clean_names, templates_named

TemplateChoice = str | tuple[str, ...]
"""The name of a set in `prompts/`, or templates with one "{}" each."""


@dataclass(frozen=True)
class TemplateBank:
    """A bank with one row per name, averaged over templates: classes, or negated prompts of classes.

    Args:
        names: the names, each once; spaces around them are removed.
        templates: see `TemplateChoice`.

    Raises:
        ClassNamesError, TemplateError, UnknownNameError: a name or a template can't be used.
    """

    kind: ClassVar[str] = "templates"

    names: tuple[str, ...]
    templates: TemplateChoice = "single"

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", clean_names(self.names))
        if not isinstance(self.templates, str):
            object.__setattr__(self, "templates", tuple(self.templates))
        templates_named(self.templates)

    @property
    def prompts(self) -> int:
        """How many prompts go through the text encoder."""
        return len(self.names) * len(templates_named(self.templates))


@dataclass(frozen=True)
class MinedBank:
    """A bank of words of a lexicon that are not similar to the classes; arguments as in `vo.mine_negatives`.

    Args:
        recipe: "neglabel" or "csp".
        lexicon: "wordnet-full" or "wordnet-paper"; not read when `words` are given.
        words: the caller's own words instead of a lexicon.
        only: the lexicographer files whose words are kept; empty for all.
        under: the synsets whose words are kept; empty for all.
        not_under: the synsets whose words are left out.
        quantile: the quantile of a word's cosines to the classes by which words are ranked.
        keep: the share of the nouns and of the adjectives that is kept.
        synonyms: whether synonyms of the class names are left out.
        seed: the seed of csp's random superclasses.
        draw: how csp chooses superclasses.
        overlap: what a word that is noun and adjective counts as.
        class_neighbours: how many words nearest to each class count as classes in the mining.
        templates: the templates of nouns; the recipe's own when None.
        classes: what the words are compared with; the classes of the task when None.

    Raises:
        UnknownNameError, TemplateError: a name or a template can't be used.
    """

    kind: ClassVar[str] = "mined"

    recipe: str = "neglabel"
    lexicon: str = "wordnet-full"
    words: tuple[str, ...] | None = None
    only: tuple[str, ...] = ()
    under: tuple[str, ...] = ()
    not_under: tuple[str, ...] = ()
    quantile: float = 0.95
    keep: float = 0.15
    synonyms: bool = True
    seed: int = 0
    draw: str = "by_word"
    overlap: str = "noun"
    class_neighbours: int = 0
    templates: TemplateChoice | None = None
    classes: "BankSpec | None" = None

    def __post_init__(self) -> None:
        recipe_named(self.recipe)
        check_draw(self.draw)
        part_of_speech(self.overlap)
        if self.templates is not None:
            templates_named(self.templates)

    @cached_property
    def plan(self) -> MiningPlan:
        """The plan of this mining; reads the lexicon.

        Raises:
            ParameterError, UnknownNameError, LexiconError: a number, a restriction or the lexicon can't be used.
        """
        words = lexicon_named(self.lexicon) if self.words is None else lexicon_from_words(self.words)
        words = restrict(words, only=self.only, under=self.under, not_under=self.not_under)
        recipe = recipe_named(self.recipe).changed(self.templates, None, None)
        return MiningPlan(
            recipe,
            words,
            self.quantile,
            self.keep,
            self.synonyms,
            self.seed,
            self.draw,
            self.overlap,
            self.class_neighbours,
        )


@dataclass(frozen=True)
class NoTowerBank:
    """A bank of negated prompts of the classes from a trained CLIPN tower.

    Args:
        tower: a file from `vlm-ood clipn-train` or `clipn-import`.
        templates: the affirmative templates of the classes, which the tower negates.
        names: the class names; those of the task when None.
    """

    kind: ClassVar[str] = "no-tower"

    tower: str
    templates: TemplateChoice = "single"
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StoredBank:
    """A bank that exists already: it was uploaded, mined or trained before.

    Args:
        source: where it is stored: a file, or the id of a bank of the server.
        digest: the digest of its content. With a digest, the source is not a part of its identity.
    """

    kind: ClassVar[str] = "stored"

    source: str
    digest: str = ""


@dataclass(frozen=True)
class StoredSupport:
    """Labelled images as stored features; arguments as in `StoredBank`."""

    kind: ClassVar[str] = "stored"

    source: str
    digest: str = ""


BankSpec = TemplateBank | MinedBank | NoTowerBank | StoredBank

_BANKS: Final[Mapping[str, type[Any]]] = {
    each.kind: each for each in (TemplateBank, MinedBank, NoTowerBank, StoredBank)
}


def bank_to_plain(spec: BankSpec) -> dict[str, Any]:
    """The spec as JSON values, its kind included."""
    plain: dict[str, Any] = {"kind": spec.kind}
    for each in fields(spec):
        value = getattr(spec, each.name)
        plain[each.name] = bank_to_plain(value) if each.name == "classes" and value is not None else to_plain(value)
    return plain


def bank_from_plain(plain: Mapping[str, Any]) -> BankSpec:
    """The spec that `bank_to_plain` wrote; a field that is missing has its default.

    Raises:
        InputError: an unknown kind or field, one that is missing, or a value that can't be used.
    """
    values = dict(plain)
    made = _BANKS.get(str(values.pop("kind", None)))
    if made is None:
        raise InputError(f"a bank of kind {plain.get('kind')!r}: give one of {', '.join(_BANKS)}")
    unknown = sorted(values.keys() - {each.name for each in fields(made)})
    if unknown:
        raise InputError(f"a bank of kind {made.kind!r} has no {', '.join(unknown)}")
    missing = [each.name for each in fields(made) if each.default is MISSING and each.name not in values]
    if missing:
        raise InputError(f"a bank of kind {made.kind!r} needs {', '.join(missing)}")
    if values.get("classes") is not None:
        values["classes"] = bank_from_plain(values["classes"])
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    spec: BankSpec = made(**arguments)
    return spec


_ANYTHING: Final[TypeAdapter[Any]] = TypeAdapter(Any)


def to_plain(value: Any) -> Any:
    """The value as JSON restores it, with lists for tuples."""
    return _ANYTHING.dump_python(value, mode="json")


def identity_of(plain: Any) -> Any:
    """What a digest is computed from, given the plain form of a bank or of a record that contains banks.

    Values that equal their defaults are left out, so that a digest stays the same when a later version adds an option.
    A stored part is identified by the digest of its content, or by its source if it has no digest.
    """
    if isinstance(plain, dict):
        record = _BANKS.get(str(plain.get("kind")))
        kept = {name: identity_of(value) for name, value in (changed(plain, record) if record else plain).items()}
        return {name: value for name, value in kept.items() if name != "source" or not kept.get("digest")}
    return [identity_of(each) for each in plain] if isinstance(plain, list) else plain


def changed(plain: Mapping[str, Any], record: type[Any]) -> dict[str, Any]:
    """The plain values of a record that are not the default of their field; fields may have no default."""
    defaults = {each.name: to_plain(each.default) for each in fields(record) if each.default is not MISSING}
    return {name: value for name, value in plain.items() if name not in defaults or value != defaults[name]}
