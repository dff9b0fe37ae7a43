"""Reads a body of POST /v1/banks: a file, labelled images or a spec."""

from dataclasses import dataclass

from starlette.requests import Request

from service.banks.records import BankJson, BankOptions, MinedJson, SupportOptions, TemplatesJson
from service.errors import MalformedBodyError
from service.http.body import Body, check_count, media_type, read_record, unsupported, uploads_of, validated
from service.http.forms import Form, read_form
from service.http.parsing import Parsing


@dataclass(frozen=True)
class BankFile:
    """An uploaded file with a bank, not parsed yet."""

    options: BankOptions
    content: bytes


BankBody = BankFile | Body[SupportOptions] | TemplatesJson | MinedJson


async def read_bank_body(request: Request, parsing: Parsing, max_images: int) -> BankBody:
    """Read a bank as a file, labelled images (at most `max_images`) or a spec.

    Raises:
        MalformedBodyError, UnsupportedBodyError, BodyTooLargeError: it can't be parsed.
        RequestValidationError: it doesn't fit its record.
        BusyError: it can't be parsed in time.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        form = await read_form(request, parsing, max_images)
        return await parsing.run(lambda: _from_form(form, max_images))
    if kind == "application/json":
        return (await read_record(request, BankJson, parsing)).root
    raise unsupported(kind, "multipart/form-data or application/json")


def _from_form(form: Form, max_images: int) -> BankFile | Body[SupportOptions]:
    files = [file for field, file in form.files() if field == "file"]
    if files:
        if len(list(form.files())) > 1:
            raise MalformedBodyError("a bank is one file in the field 'file': send each file in its own request")
        return BankFile(validated(BankOptions, form.fields()), files[0].content)
    uploads = uploads_of(form)
    if not uploads:
        raise MalformedBodyError("no file: send a bank as the field 'file', or images as 'images' with 'labels'")
    check_count(len(uploads), max_images)  # URLs count too
    return Body(validated(SupportOptions, form.fields()), uploads)
