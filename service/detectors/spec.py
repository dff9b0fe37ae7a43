"""What makes a detector, checked and in one canonical form: equal content, equal digest."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from service.detectors.records import DetectorOptions, Negatives
from service.settings import Settings
from vlm_ood.detectors import registry
from vlm_ood.digests import digest_of
from vlm_ood.errors import ClassNamesError, TemplateError, UnknownNameError
from vlm_ood.text.bank import clean_names
from vlm_ood.text.templates import templates_named

Templates = str | tuple[str, ...]


@dataclass(frozen=True)
class DetectorSpec:
    """Everything that a detector's scores depend on, but the weights.

    Args:
        classes: names, cleaned.
        method: a registered detector.
        parameters: all of them, defaults filled in.
        templates: a set's name, or sentences.
        encoder: one that may be asked for.
        negatives: how to mine them, for methods that need them.
        no_templates: sentences that deny a class, for methods that need them.
    """

    classes: tuple[str, ...]
    method: str
    parameters: Mapping[str, Any] = field(hash=False)
    templates: Templates
    encoder: str
    negatives: Negatives | None = None
    no_templates: Templates | None = None

    @cached_property
    def digest(self) -> str:
        """Of the content."""
        return digest_of("detector", self.stored())

    @property
    def family(self) -> str:
        """Of the content without the class names."""
        return digest_of("detector family", self.stored() | {"classes": []})

    def id_of(self, tenant: str) -> str:
        """What the tenant calls it."""
        return f"det_{digest_of(tenant, self.digest)[:24]}"

    def stored(self) -> dict[str, Any]:
        """As plain values, for a JSON column."""
        plain = asdict(self) | {"negatives": self.negatives and self.negatives.model_dump()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @staticmethod
    def from_stored(plain: Mapping[str, Any]) -> "DetectorSpec":
        """The spec that `stored` wrote."""
        negatives = plain["negatives"]
        return DetectorSpec(
            classes=tuple(plain["classes"]),
            method=plain["method"],
            parameters=plain["parameters"],
            templates=_frozen(plain["templates"]),
            encoder=plain["encoder"],
            negatives=None if negatives is None else Negatives.model_validate(negatives),
            no_templates=None if plain["no_templates"] is None else _frozen(plain["no_templates"]),
        )


def checked_spec(options: DetectorOptions, settings: Settings) -> DetectorSpec:
    """What a caller asked for, if this server can give it.

    Raises:
        InputError: a name, a parameter, a template or an encoder that can't be used.
    """
    encoder = options.encoder or settings.encoders[0]
    if encoder not in settings.encoders:
        raise UnknownNameError("encoder", encoder, settings.encoders)
    if len(options.classes) > settings.max_classes:
        raise ClassNamesError(f"{len(options.classes):,} class names, the limit is {settings.max_classes:,}")
    _check_prompts(options, settings.max_prompts)
    detector = registry.create(options.method, **options.parameters)
    return DetectorSpec(
        classes=clean_names(options.classes),
        method=options.method,
        parameters=registry.parameters(detector),
        templates=_checked_templates(options.templates, settings.max_templates),
        encoder=encoder,
        negatives=options.negatives,
        no_templates=(
            None if options.no_templates is None else _checked_templates(options.no_templates, settings.max_templates)
        ),
    )


def _check_prompts(options: DetectorOptions, limit: int) -> None:
    prompts = len(options.classes) * len(templates_named(options.templates))
    if prompts > limit:
        raise ClassNamesError(
            f"{len(options.classes):,} class names make {prompts:,} prompts, the limit is {limit:,}: "
            "give fewer names, or fewer templates"
        )


def _checked_templates(templates: str | Sequence[str], limit: int) -> Templates:
    if len(templates_named(templates)) > limit:
        raise TemplateError(f"{len(templates):,} templates, the limit is {limit}")
    return _frozen(templates)


def _frozen(templates: str | Sequence[str]) -> Templates:
    return templates if isinstance(templates, str) else tuple(templates)
