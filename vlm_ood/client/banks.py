"""The calls about banks; generators as in `calls`."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import TypeAdapter

from vlm_ood.client.bank_records import BankInfo, plain
from vlm_ood.client.files import MAX_BYTES, MAX_SUPPORT_IMAGES, Batch, File, batches
from vlm_ood.client.requests import ApiRequest, Call, all_pages, check, failures, form, named_failures, parsed
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
    response = yield ApiRequest("POST", BANKS_PATH, {"data": _options(encoder, label), "files": files})
    return parsed(response, _bank)


def upload_support(images: Mapping[str, Sequence[File]], encoder: str | None, label: str) -> Call[BankInfo]:
    """Upload labelled images in one request; the same images under the same names have the same id.

    Args:
        images: files by class name.
        encoder: the name of the encoder; the server's default when None.
        label: a note for people.

    Raises:
        InputError: the images are more than one request may hold.
        ImageError: a class has no file that can be read.
        ServerError: the server refused or failed.
    """
    files = [file for each in images.values() for file in each]
    labels = [name for name, each in images.items() for _ in each]
    errors: dict[int, str] = {}
    batch = _one_batch(files, errors)
    kept = [labels[row] for row in batch.contents]
    _check_classes(images, labels, kept, errors)
    response = yield ApiRequest("POST", BANKS_PATH, form(batch, {**_options(encoder, label), "labels": kept}))
    failed = parsed(response, partial(failures, list(batch.contents)))
    return parsed(response, lambda body: _bank({**body, "failed": named_failures(failed, errors, files)}))


def make_bank(spec: TemplateBank | MinedBank, encoder: str | None, label: str, wait_s: float) -> Call[BankInfo]:
    """Let the server make a bank, and wait for it; the same spec has the same id.

    Args:
        spec: what the bank is made from.
        encoder: the name of the encoder; the server's default when None.
        label: a note for people.
        wait_s: how many seconds to wait; the state of the result says whether the bank is ready.

    Raises:
        ClassNamesError, InputError: the server can't make a bank from this spec.
        ServerError: the server refused or failed, or the bank can't be made.
    """
    response = yield ApiRequest("POST", BANKS_PATH, {"json": {**bank_fields(spec), **_options(encoder, label)}})
    made, waited_s = parsed(response, _bank), 0.0
    while made.state == "preparing" and waited_s < wait_s:
        pause_s = min(POLL_S, wait_s - waited_s)
        response = yield ApiRequest("GET", bank_path(made.id), {"params": {"limit": 1}}, after_s=pause_s)
        made, waited_s = parsed(response, _bank), waited_s + pause_s
    if made.state == "failed":
        raise ServerError(response.status_code, "the bank can't be made", made.error or "no reason given")
    return made


def get_bank(bank_id: str, limit: int, against: str | None) -> Call[BankInfo]:
    """Get a bank with a preview of its first names."""
    params = {"limit": limit} | ({} if against is None else {"against": against})
    return parsed((yield ApiRequest("GET", bank_path(bank_id), {"params": params})), _bank)


def delete_bank(bank_id: str) -> Call[None]:
    """Delete a bank."""
    check((yield ApiRequest("DELETE", bank_path(bank_id))))


def list_banks() -> Call[tuple[BankInfo, ...]]:
    """List the banks, newest first."""
    return (yield from all_pages(BANKS_PATH, "banks", BANKS.validate_python))


def bank_fields(spec: TemplateBank | MinedBank) -> dict[str, Any]:
    """The fields of the API for a spec; there, `templates` of a mined bank are those of its classes.

    Raises:
        ClassNamesError: a mined bank has no classes.
        InputError: its classes are neither names nor a stored bank.
    """
    fields = {name: value for name, value in bank_to_plain(spec).items() if value is not None}
    if isinstance(spec, TemplateBank):
        return fields
    if "templates" in fields:
        fields["negative_templates"] = fields.pop("templates")
    match spec.classes:
        case StoredBank():
            return fields | {"classes": plain(spec.classes)}
        case TemplateBank():
            classes = fields["classes"]
            return fields | {"classes": classes["names"], "templates": classes["templates"]}
        case None:
            raise ClassNamesError("words are mined against classes: give MinedBank(classes=TemplateBank(names))")
        case other:
            raise InputError(f"classes of kind {other.kind!r}: give a TemplateBank, or a StoredBank with a bank's id")


def bank_path(bank_id: str) -> str:
    """The path of a bank; the id is quoted, so that it can't name another route."""
    return f"{BANKS_PATH}/{quote(bank_id, safe='')}"


def _bank(body: Any) -> BankInfo:
    return BANK.validate_python(body)


def _options(encoder: str | None, label: str) -> dict[str, str]:
    """The fields that are not empty; the server has a default for each."""
    return {name: value for name, value in {"encoder": encoder, "label": label}.items() if value}


def _one_batch(files: Sequence[File], errors: dict[int, str]) -> Batch:
    """Read all files into one batch; errors of files that can't be read go into `errors`.

    Raises:
        InputError: there are more files or bytes than one request may hold.
        ImageError: no file can be read.
    """
    found = list(islice(batches(files, errors, MAX_SUPPORT_IMAGES), 2))
    if len(found) > 1:
        raise InputError(
            f"{len(files)} images don't fit into one request, which may hold {MAX_SUPPORT_IMAGES} images and "
            f"{MAX_BYTES:,} bytes: give fewer or smaller images, because labelled images are uploaded in one request"
        )
    if not found:
        reason = next(iter(errors.values()), "give at least one")
        raise ImageError(f"none of the {len(files)} files can be read: {reason}")
    return found[0]


def _check_classes(
    names: Mapping[str, object], labels: Sequence[str], kept: Sequence[str], errors: Mapping[int, str]
) -> None:
    """Check that each class has a file that can be read.

    Args:
        names: the classes.
        labels: one per file.
        kept: the labels of the files that can be read.
        errors: {row of another file: why it can't be read}.

    Raises:
        ImageError: a class has none; the message names the first such class.
    """
    for name in (name for name in names if name not in kept):
        why = next((error for row, error in errors.items() if labels[row] == name), "give at least one")
        raise ImageError(f"no image of the class {name!r}: {why}")
