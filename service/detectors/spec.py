"""Checks a request for a detector, and makes its spec; banks must be the caller's own."""

from collections.abc import Mapping, Sequence
from typing import Final

from service.banks.contents import check_labels
from service.banks.costs import check_mined
from service.banks.made import MadeBanks
from service.banks.records import BankKind, BankReference
from service.banks.rows import BankRow
from service.banks.spec import (
    check_count,
    check_prompts,
    checked_encoder,
    checked_templates,
    checked_words,
    referred,
    template_bank,
)
from service.detectors.records import DetectorOptions, Negatives
from service.settings import Settings
from vlm_ood.errors import InputError, TaskError
from vlm_ood.tasks import BankSpec, DetectorSpec, MinedBank, StoredBank, StoredSupport, TaskSpec, TemplateBank, check
from vlm_ood.text import clean_names

WORDING: Final[Mapping[str, str]] = {
    "negatives": (
        'the field "negatives", such as {"recipe": "neglabel"}, {"words": ["sofa", "lamp"]} or {"bank": "bnk_..."}'
    ),
    "no": 'the field "no_templates", such as "clipn_no_training_free", or "no", such as {"bank": "bnk_..."}',
    "support": 'the field "support", such as {"bank": "bnk_..."} of images sent to /v1/banks with a label each',
}


async def checked_spec(options: DetectorOptions, tenant: str, settings: Settings, banks: MadeBanks) -> DetectorSpec:
    """The spec of a requested detector, within the limits of this server.

    Args:
        options: of the request.
        tenant: of the caller; only its banks may be used.
        settings: have the limits.
        banks: stored banks of all tenants.

    Raises:
        InputError: a name, a parameter, a template, a bank or an encoder that can't be used, or a part that the method
            lacks or does not read.
        NotFoundError: the tenant has no such bank.
        PreparingError: the classes are a bank whose names are not known yet.
    """
    encoder = checked_encoder(options.encoder, settings)
    _check_fields(options)
    rows = {
        field: await referred(reference.bank, field, kind, encoder, tenant, banks.store)
        for field, (reference, kind) in _references(options).items()
    }
    task = TaskSpec(
        _stored(rows.get("classes")) or template_bank(_names(options), options.templates, settings),
        encoder,
        negatives=_stored(rows.get("negatives")) or _mined(options.negatives, settings),
        no=_stored(rows.get("no")) or _negated(options, settings),
        support=StoredSupport(rows["support"].id, rows["support"].digest) if "support" in rows else None,
    )
    check_prompts([task.classes, task.no], settings)
    spec = DetectorSpec(options.method, task, options.parameters)
    check(spec, WORDING)
    if isinstance(task.negatives, MinedBank):
        await check_mined(task.negatives, settings)
    await _check_names(spec, rows, settings, banks)
    return spec


def _check_fields(options: DetectorOptions) -> None:
    if options.no is not None and options.no_templates is not None:
        raise InputError("no and no_templates both give negated prompts: leave one out")
    if isinstance(options.classes, BankReference) and options.no_templates is not None:
        raise InputError(
            'no_templates is for classes that are given as names: make a bank of {"kind": "templates"} from the names '
            "of the classes and these templates, and give it as no"
        )
    if isinstance(options.classes, BankReference) and options.templates != "single":
        raise InputError("templates is for classes that are given as names: leave it out, a bank has its vectors")


def _references(options: DetectorOptions) -> dict[str, tuple[BankReference, BankKind]]:
    """{field: (the bank it refers to, the kind that the bank must have)}."""
    fields: dict[str, tuple[object, BankKind]] = {
        "classes": (options.classes, "text"),
        "negatives": (options.negatives, "text"),
        "no": (options.no, "text"),
        "support": (options.support, "support"),
    }
    return {field: (given, kind) for field, (given, kind) in fields.items() if isinstance(given, BankReference)}


def _names(options: DetectorOptions) -> Sequence[str]:
    return () if isinstance(options.classes, BankReference) else options.classes


def _stored(row: BankRow | None) -> BankSpec | None:
    return None if row is None else StoredBank(row.id, row.digest)


def _mined(asked: Negatives | BankReference | None, settings: Settings) -> MinedBank | None:
    if not isinstance(asked, Negatives):
        return None
    words = checked_words(asked.words, settings)
    return MinedBank(asked.recipe, asked.lexicon, words, quantile=asked.quantile, keep=asked.keep)


def _negated(options: DetectorOptions, settings: Settings) -> TemplateBank | None:
    if options.no_templates is None:
        return None
    return TemplateBank(tuple(_names(options)), checked_templates(options.no_templates, settings))


async def _check_names(spec: DetectorSpec, rows: Mapping[str, BankRow], settings: Settings, banks: MadeBanks) -> None:
    """Check that the banks have matching names.

    Raises:
        TaskError: the negated prompts have other names than the classes.
        ClassNamesError: too many classes, or a label that is not a class.
    """
    names = spec.task.names
    if "classes" in rows:
        names = clean_names(await banks.names(rows["classes"]))
        check_count(len(names), settings)
        spec.detector.check_classes(len(names))
    if "no" in rows and names != await banks.names(rows["no"]):
        raise TaskError(
            f"no: bank {rows['no'].id} has other names than the classes: make it from the same names in the same order"
        )
    if "support" in rows:
        check_labels((await banks.images(rows["support"])).classes, names or ())
