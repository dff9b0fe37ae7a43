"""Checks a request for a bank against the limits of the server, and makes its spec."""

from collections.abc import Sequence

from service.banks.costs import check_mined
from service.banks.records import BankKind, BankReference, MinedJson, TemplatesJson
from service.banks.rows import BankRow
from service.banks.store import BankStore
from service.settings import Settings
from vlm_ood.errors import ClassNamesError, InputError, LexiconError, TemplateError, UnknownNameError, VectorError
from vlm_ood.tasks import BankSpec, MinedBank, StoredBank, TemplateBank, TemplateChoice
from vlm_ood.text import templates_named


async def checked_bank_spec(
    asked: TemplatesJson | MinedJson, encoder: str, tenant: str, settings: Settings, store: BankStore
) -> TemplateBank | MinedBank:
    """The spec of a requested bank.

    Raises:
        InputError: names, templates, a lexicon or a bank that can't be used.
        NotFoundError: the tenant has no such bank.
    """
    if isinstance(asked, TemplatesJson):
        return template_bank(asked.names, asked.templates, settings)
    classes: BankSpec
    if isinstance(asked.classes, BankReference):
        row = await referred(asked.classes.bank, "classes", "text", encoder, tenant, store)
        classes = StoredBank(row.id, row.digest)
    else:
        classes = template_bank(asked.classes, asked.templates, settings)
    bank = MinedBank(
        recipe=asked.recipe,
        lexicon=asked.lexicon,
        words=checked_words(asked.words, settings),
        only=tuple(asked.only),
        under=tuple(asked.under),
        not_under=tuple(asked.not_under),
        quantile=asked.quantile,
        keep=asked.keep,
        synonyms=asked.synonyms,
        seed=asked.seed,
        draw=asked.draw,
        overlap=asked.overlap,
        class_neighbours=asked.class_neighbours,
        templates=None if asked.negative_templates is None else checked_templates(asked.negative_templates, settings),
        classes=classes,
    )
    return await check_mined(bank, settings)


async def referred(bank_id: str, field: str, kind: BankKind, encoder: str, tenant: str, store: BankStore) -> BankRow:
    """The tenant's bank that a field refers to.

    Args:
        bank_id: from the request.
        field: name of the request's field, for the error.
        kind: that the bank must have: "text" or "support".
        encoder: that must have made its vectors.
        tenant: of the caller.
        store: of the banks.

    Raises:
        NotFoundError: the tenant has no such bank.
        InputError: it is of another kind.
        VectorError: it is of another encoder.
    """
    row = await store.get(tenant, bank_id)
    if row.kind != kind:
        held, wanted = ("labelled images", "names") if kind == "text" else ("names", "labelled images")
        raise InputError(f"{field}: bank {row.id} holds {held}: give a bank of {wanted}")
    if row.encoder != encoder:
        raise VectorError(
            f"{field}: bank {row.id} holds vectors of {row.encoder}, not of {encoder}: ask for the encoder "
            f"{row.encoder}, or give a bank of {encoder}"
        )
    return row


def checked_encoder(name: str | None, settings: Settings) -> str:
    """The requested encoder, or the server's first.

    Raises:
        UnknownNameError: the server does not have it.
    """
    encoder = name or settings.encoders[0]
    if encoder not in settings.encoders:
        raise UnknownNameError("encoder", encoder, settings.encoders)
    return encoder


def template_bank(names: Sequence[str], templates: str | Sequence[str], settings: Settings) -> TemplateBank:
    """The spec of a bank of one vector per name.

    Raises:
        ClassNamesError, TemplateError, UnknownNameError: names or templates that can't be used, or too many.
    """
    check_count(len(names), settings)
    bank = TemplateBank(tuple(names), checked_templates(templates, settings))
    check_prompts([bank], settings)
    return bank


def check_count(names: int, settings: Settings) -> None:
    """Check the number of class names.

    Raises:
        ClassNamesError: more than the limit.
    """
    if names > settings.max_classes:
        raise ClassNamesError(f"{names:,} class names, the limit is {settings.max_classes:,}: give fewer")


def check_prompts(banks: Sequence[BankSpec | None], settings: Settings) -> None:
    """Check the number of prompts of all banks together.

    Raises:
        ClassNamesError: more than the limit.
    """
    made = [bank for bank in banks if isinstance(bank, TemplateBank)]
    prompts = sum(bank.prompts for bank in made)
    if prompts > settings.max_prompts:
        raise ClassNamesError(
            f"{len(made[0].names):,} class names make {prompts:,} prompts, the limit is {settings.max_prompts:,}: "
            "give fewer names, or fewer templates"
        )


def checked_templates(templates: str | Sequence[str], settings: Settings) -> TemplateChoice:
    """The requested templates, checked.

    Raises:
        TemplateError, UnknownNameError: they can't be used, or are too many.
    """
    if len(templates_named(templates)) > settings.max_templates:
        raise TemplateError(f"{len(templates):,} templates, the limit is {settings.max_templates}: give fewer")
    return templates if isinstance(templates, str) else tuple(templates)


def checked_words(words: Sequence[str] | None, settings: Settings) -> tuple[str, ...] | None:
    """The request's own words, checked; None if there are none.

    Raises:
        LexiconError: too many.
    """
    if words is not None and len(words) > settings.max_words:
        raise LexiconError(f"{len(words):,} words, the limit is {settings.max_words:,}: give fewer")
    return None if words is None else tuple(words)
