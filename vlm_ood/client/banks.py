"""The calls about banks: generators of requests, like those of `calls`."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import TypeAdapter

from vlm_ood.client.asks import Ask, Call, all_pages, check, failures, form, named_failures, parsed
from vlm_ood.client.bank_records import BankInfo, names_or_bank, plain
from vlm_ood.client.files import MAX_BYTES, MAX_SUPPORT_IMAGES, Batch, File, batches
from vlm_ood.errors import ClassNamesError, ImageError, InputError, ServerError
from vlm_ood.io.vectors import bank_file, load_bank
from vlm_ood.tasks import MinedBank, StoredBank, TemplateBank, bank_to_plain
from vlm_ood.types import TextBank

BANKS_PATH: Final = "/v1/banks"
POLL_S: Final = 2.0

BANK: Final = TypeAdapter(BankInfo)
BANKS: Final = TypeAdapter(tuple[BankInfo, ...])


def upload_bank(bank: TextBank | str | Path, encoder: str | None, label: str) -> Call[BankInfo]:
    """Upload a bank; the same content has the same id.

    Raises:
        FileNotFoundError, StorageError, VectorError: the file can't be read.
        ServerError: the server refused or failed.
    """
    content = bank_file(bank if isinstance(bank, TextBank) else load_bank(bank))
    files = [("file", ("bank.safetensors", content, "application/octet-stream"))]
    response = yield Ask("POST", BANKS_PATH, {"data": _options(encoder, label), "files": files})
    return parsed(response, _bank)


def upload_support(images: Mapping[str, Sequence[File]], encoder: str | None, label: str) -> Call[BankInfo]:
    """Upload labelled images in one request; the same images under the same names have the same id.

    Args:
        images: files by class name.
        encoder: that encodes them; the server's first when None.
        label: for people.

    Raises:
        InputError: more than one request may hold.
        ImageError: a class without a file that can be read.
        ServerError: the server refused or failed.
    """
    files = [file for each in images.values() for file in each]
    labels = [name for name, each in images.items() for _ in each]
    errors: dict[int, str] = {}
    batch = _one_batch(files, errors)
    kept = [labels[row] for row in batch.contents]
    _check_classes(images, labels, kept, errors)
    response = yield Ask("POST", BANKS_PATH, form(batch, {**_options(encoder, label), "labels": kept}))
    failed = parsed(response, partial(failures, list(batch.contents)))
    return parsed(response, lambda said: _bank({**said, "failed": named_failures(failed, errors, files)}))


def make_bank(spec: TemplateBank | MinedBank, encoder: str | None, label: str, wait_s: float) -> Call[BankInfo]:
    """Let the server make a bank, and wait for it; the same spec has the same id.

    Args:
        spec: what it is made from.
        encoder: that encodes it; the server's first when None.
        label: for people.
        wait_s: seconds to wait until it is made; the state of the answer says whether it is.

    Raises:
        ClassNamesError, InputError: a spec that the server can't make a bank of.
        ServerError: the server refused or failed, or the bank can't be made.
    """
    response = yield Ask("POST", BANKS_PATH, {"json": {**bank_fields(spec), **_options(encoder, label)}})
    made, waited_s = parsed(response, _bank), 0.0
    while made.state == "preparing" and waited_s < wait_s:
        pause_s = min(POLL_S, wait_s - waited_s)
        response = yield Ask("GET", bank_path(made.id), {"params": {"limit": 1}}, after_s=pause_s)
        made, waited_s = parsed(response, _bank), waited_s + pause_s
    if made.state == "failed":
        raise ServerError(response.status_code, "the bank can't be made", made.error or "no reason given")
    return made


def get_bank(bank_id: str, limit: int, against: str | None) -> Call[BankInfo]:
    """Get a bank with a preview of its first names."""
    params = {"limit": limit} | ({} if against is None else {"against": against})
    return parsed((yield Ask("GET", bank_path(bank_id), {"params": params})), _bank)


def delete_bank(bank_id: str) -> Call[None]:
    """Delete a bank."""
    check((yield Ask("DELETE", bank_path(bank_id))))


def list_banks() -> Call[tuple[BankInfo, ...]]:
    """All pages, newest first."""
    return (yield from all_pages(BANKS_PATH, "banks", BANKS.validate_python))


def bank_fields(spec: TemplateBank | MinedBank) -> dict[str, Any]:
    """A spec in the fields of the API, where a mined bank's templates are of its classes.

    Raises:
        ClassNamesError: a mined bank without classes.
        InputError: classes that are neither names nor a stored bank.
    """
    fields = {name: value for name, value in bank_to_plain(spec).items() if value is not None}
    if isinstance(spec, TemplateBank):
        return fields
    if spec.classes is None:
        raise ClassNamesError("words are mined against classes: give MinedBank(classes=TemplateBank(names))")
    if not isinstance(spec.classes, TemplateBank | StoredBank):
        raise InputError(
            f"classes of kind {spec.classes.kind!r}: give a TemplateBank, or a StoredBank with a bank's id"
        )
    if isinstance(spec.classes, StoredBank):
        classes = {"classes": plain(spec.classes)}
    else:
        classes = {"classes": names_or_bank(spec.classes.names), "templates": plain(spec.classes.templates)}
    renamed = {} if spec.templates is None else {"negative_templates": fields.pop("templates")}
    return fields | renamed | classes


def bank_path(bank_id: str) -> str:
    """The path of a bank; the id is quoted, so that it can't lead elsewhere."""
    return f"{BANKS_PATH}/{quote(bank_id, safe='')}"


def _bank(said: Any) -> BankInfo:
    return BANK.validate_python(said)


def _options(encoder: str | None, label: str) -> dict[str, str]:
    """The fields that are given; the server has a default for each."""
    return {name: value for name, value in {"encoder": encoder, "label": label}.items() if value}


def _one_batch(files: Sequence[File], errors: dict[int, str]) -> Batch:
    """All files in one batch; `errors` takes those that can't be read.

    Raises:
        InputError: more files or bytes than one request holds.
        ImageError: none can be read.
    """
    found = list(islice(batches(files, errors, MAX_SUPPORT_IMAGES), 2))
    if len(found) > 1:
        raise InputError(
            f"{len(files)} images don't fit one request of {MAX_SUPPORT_IMAGES} images and {MAX_BYTES:,} bytes, and "
            "labelled images are one bank: give fewer, or smaller ones"
        )
    if not found:
        reason = next(iter(errors.values()), "give at least one")
        raise ImageError(f"none of the {len(files)} files can be read: {reason}")
    return found[0]


def _check_classes(
    names: Mapping[str, object], labels: Sequence[str], kept: Sequence[str], errors: Mapping[int, str]
) -> None:
    """Refuse a class that none of its files is left of.

    Args:
        names: all classes.
        labels: one per file.
        kept: labels of the files that can be read.
        errors: {file: why it can't be read}.

    Raises:
        ImageError: with the first such class.
    """
    for name in (name for name in names if name not in kept):
        why = next((error for row, error in errors.items() if labels[row] == name), "give at least one")
        raise ImageError(f"no image of the class {name!r}: {why}")
