"""From a body, multipart or JSON, to checked options and the bytes of each image."""

import json
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.errors import BodyTooLargeError, MalformedBodyError, UnsupportedBodyError
from service.http.records import Asked, Images, ImageSource
from service.security.fetching import Fetcher, UrlError
from vlm_ood.errors import ImageError

Options = TypeVar("Options", bound=Asked)

FILES: Final = ("images", "image", "file", "files")
LISTS: Final = ("classes",)  # may be repeated, or one JSON list
OBJECTS: Final = ("parameters", "negatives")  # JSON objects
MAX_FIELDS: Final = 20_000  # a class name may be a field of its own
MAX_FIELD_BYTES: Final = 8 * 2**20


@dataclass(frozen=True)
class Upload:
    """An image as it arrived: its bytes, its URL, or why it is neither."""

    name: str
    content: bytes | str | ImageError

    async def fetched(self, fetcher: Fetcher | None) -> "Upload":
        """With the bytes in place of the URL."""
        if not isinstance(self.content, str):
            return self
        if fetcher is None:
            return Upload(self.name, UrlError("URLs are not fetched by this server: send the file itself"))
        try:
            return Upload(self.name, await fetcher.fetch(self.content))
        except ImageError as error:
            return Upload(self.name, error)


@dataclass(frozen=True)
class Body(Generic[Options]):
    """What a request holds."""

    options: Options
    uploads: list[Upload]


async def read_body(
    request: Request, options: type[Options], from_json: type[Images], max_images: int
) -> Body[Options]:
    """The options and images of a request.

    Args:
        request: whose body to read.
        options: the record of the form's fields.
        from_json: the record of a JSON body: the same fields and `images`.
        max_images: in one request.

    Raises:
        MalformedBodyError, UnsupportedBodyError, BodyTooLargeError: it can't be parsed.
        RequestValidationError: it doesn't fit the record.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_form(request, options, max_images)
    if kind == "application/json" or kind.endswith("+json"):
        return await _from_json(request, options, from_json, max_images)
    raise UnsupportedBodyError(f"{kind[:100] or 'no content type'}: send multipart/form-data or application/json")


async def _from_json(
    request: Request, options: type[Options], from_json: type[Images], max_images: int
) -> Body[Options]:
    content = await request.body()
    try:
        parsed = from_json.model_validate_json(content)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
    _check_count(len(parsed.images), max_images)
    given = {name: getattr(parsed, name) for name in options.model_fields}
    uploads = [_from_source(source, row) for row, source in enumerate(parsed.images)]
    return Body(options.model_construct(**given), uploads)


def _from_source(source: ImageSource, row: int) -> Upload:
    name = source.name or f"image {row + 1}"
    if source.url is not None:
        return Upload(name, source.url)
    try:
        return Upload(name, source.decoded())
    except ImageError as error:
        return Upload(name, error)


async def _from_form(request: Request, options: type[Options], max_images: int) -> Body[Options]:
    try:
        async with request.form(max_files=max_images, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
            uploads = await _uploads(form)
            given = _fields(form)
    except HTTPException as error:
        if "Too many files" in error.detail:
            _check_count(max_images + 1, max_images)
        raise MalformedBodyError(f"not multipart/form-data: {error.detail}") from None
    except (ValueError, LookupError) as error:  # an unknown charset, a boundary that is none
        raise MalformedBodyError(f"not multipart/form-data: {error}") from None
    _check_count(len(uploads), max_images)
    try:
        return Body(options.model_validate(given), uploads)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None


async def _uploads(form: FormData) -> list[Upload]:
    uploads: list[Upload] = []
    for field, value in form.multi_items():
        if isinstance(value, UploadFile):
            if field not in FILES:
                raise MalformedBodyError(f"file field {field[:100]!r}: send images as the field 'images'")
            uploads.append(Upload(_clean(value.filename) or f"image {len(uploads) + 1}", await value.read()))
        elif field == "urls":
            uploads.append(Upload(value[:200], value))
    return uploads


def _fields(form: FormData) -> dict[str, Any]:
    """Text fields by name; lists and objects are written in JSON, and `classes` may be given many times."""
    given: dict[str, Any] = {}
    for field in dict.fromkeys(name for name, value in form.multi_items() if isinstance(value, str)):
        if field == "urls":
            continue
        values = [_value(field, value) for value in form.getlist(field) if isinstance(value, str)]
        if field in LISTS:
            given[field] = [name for value in values for name in (value if isinstance(value, list) else [value])]
        elif len(values) > 1 and field != "templates":
            raise MalformedBodyError(f"field {field[:100]!r} is given {len(values)} times: give it once")
        elif values != [""]:  # an empty field of a form is one that wasn't filled in
            given[field] = values if len(values) > 1 else values[0]
    return given


def _value(field: str, text: str) -> Any:
    if text[:1] != ("{" if field in OBJECTS else "["):
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _check_count(count: int, limit: int) -> None:
    if count > limit:
        raise BodyTooLargeError(f"more than {limit} images: send them in several requests")
    if not count:
        raise MalformedBodyError("no images: send at least one, as files in the field 'images'")


def _clean(name: str | None) -> str:
    return "".join(character for character in name or "" if character.isprintable())[:200]
