"""Reads a body of POST /v1/banks: a file, labelled images or a spec."""

from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import Request

from service.banks.records import BankJson, BankOptions, MinedJson, SupportOptions, TemplatesJson
from service.errors import MalformedBodyError, UnsupportedBodyError
from service.http.body import Body, check_count, media_type, uploads_of, validated
from service.http.forms import read_form


@dataclass(frozen=True)
class BankFile:
    """An uploaded file with a bank, not parsed yet."""

    options: BankOptions
    content: bytes


BankBody = BankFile | Body[SupportOptions] | TemplatesJson | MinedJson


async def read_bank_body(request: Request, max_images: int) -> BankBody:
    """Read a bank as a file, labelled images (at most `max_images`) or a spec.

    Raises:
        MalformedBodyError, UnsupportedBodyError, BodyTooLargeError: it can't be parsed.
        RequestValidationError: it doesn't fit its record.
    """
    match media_type(request):
        case "multipart/form-data":
            return await _from_form(request, max_images)
        case "application/json":
            return await _from_json(request)
        case other:
            raise UnsupportedBodyError(
                f"{other[:100] or 'no content type'}: send multipart/form-data or application/json"
            )


async def _from_form(request: Request, max_images: int) -> BankFile | Body[SupportOptions]:
    form = await read_form(request, max_images)
    files = [file for field, file in form.files() if field == "file"]
    if files:
        if len(list(form.files())) > 1:
            raise MalformedBodyError("a bank is one file in the field 'file': send each file in its own request")
        return BankFile(validated(BankOptions, form), files[0].content)
    uploads = uploads_of(form)
    if not uploads:
        raise MalformedBodyError("no file: send a bank as the field 'file', or images as 'images' with 'labels'")
    check_count(len(uploads), max_images)  # URLs count too
    return Body(validated(SupportOptions, form), uploads)


async def _from_json(request: Request) -> TemplatesJson | MinedJson:
    try:
        return BankJson.model_validate_json(await request.body()).root
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
