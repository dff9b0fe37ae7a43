"""From what a caller asks for to a checked detector spec."""

from collections.abc import Mapping, Sequence
from typing import Final

from service.detectors.records import DetectorOptions, Negatives
from service.settings import Settings
from vlm_ood.errors import ClassNamesError, LexiconError, TemplateError, UnknownNameError
from vlm_ood.tasks import DetectorSpec, MinedBank, TaskSpec, TemplateBank, TemplateChoice, check
from vlm_ood.text import templates_named

WORDING: Final[Mapping[str, str]] = {
    "negatives": 'the field "negatives", such as {"recipe": "neglabel"} or {"words": ["sofa", "lamp"]}',
    "no": 'the field "no_templates", such as "clipn_no_training_free"',
    "support": 'the field "support", the id of labelled images',
}


def checked_spec(options: DetectorOptions, settings: Settings) -> DetectorSpec:
    """What a caller asked for, if this server can give it.

    Raises:
        InputError: a name, a parameter, a template or an encoder that can't be used, or a part that the method lacks or
            does not read.
    """
    encoder = options.encoder or settings.encoders[0]
    if encoder not in settings.encoders:
        raise UnknownNameError("encoder", encoder, settings.encoders)
    if len(options.classes) > settings.max_classes:
        raise ClassNamesError(f"{len(options.classes):,} class names, the limit is {settings.max_classes:,}")
    task = TaskSpec(
        TemplateBank(tuple(options.classes), _templates(options.templates, settings.max_templates)),
        encoder,
        negatives=None if options.negatives is None else _mined(options.negatives, settings.max_words),
        no=None if options.no_templates is None else _negated(options, settings.max_templates),
    )
    _check_prompts(task, settings.max_prompts)
    spec = DetectorSpec(options.method, task, options.parameters)
    check(spec, WORDING)
    return spec


def _negated(options: DetectorOptions, limit: int) -> TemplateBank:
    return TemplateBank(tuple(options.classes), _templates(options.no_templates or (), limit))


def _mined(asked: Negatives, limit: int) -> MinedBank:
    if asked.words is not None and len(asked.words) > limit:
        raise LexiconError(f"{len(asked.words):,} words, the limit is {limit:,}: give fewer")
    words = None if asked.words is None else tuple(asked.words)
    return MinedBank(asked.recipe, asked.lexicon, words, quantile=asked.quantile, keep=asked.keep)


def _templates(templates: str | Sequence[str], limit: int) -> TemplateChoice:
    if len(templates_named(templates)) > limit:
        raise TemplateError(f"{len(templates):,} templates, the limit is {limit}")
    return templates if isinstance(templates, str) else tuple(templates)


def _check_prompts(task: TaskSpec, limit: int) -> None:
    prompts = sum(bank.prompts for bank in (task.classes, task.no) if isinstance(bank, TemplateBank))
    if prompts > limit:
        raise ClassNamesError(
            f"{len(task.names or ()):,} class names make {prompts:,} prompts, the limit is {limit:,}: "
            "give fewer names, or fewer templates"
        )
