"""Reads a multipart or JSON body: checked options, and the bytes of each image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from service.ceilings import URL_CHARACTERS
from service.errors import BodyTooLargeError, MalformedBodyError, UnsupportedBodyError, UrlError
from service.http.forms import Form, read_form
from service.http.json_text import JsonReader
from service.http.limits import ParseLimits
from service.http.multipart import FormFile
from service.http.parsing import Parsing
from service.http.records import Asked, Images, ImageSource
from service.security.fetching import Fetcher
from vlm_ood.errors import ImageError

Options = TypeVar("Options", bound=Asked)
Record = TypeVar("Record", bound=BaseModel)
T = TypeVar("T")

FILES: Final = ("images", "image", "file", "files")


@dataclass(frozen=True)
class Upload:
    """An image as it was sent: its bytes, its URL, or why it is neither."""

    name: str
    content: bytes | str | ImageError

    async def fetched(self, fetcher: Fetcher | None, count: Callable[[int], None]) -> "Upload":
        """The upload with its bytes, or an error, in place of its URL.

        Args:
            fetcher: None when URLs are not fetched.
            count: called with the size of each piece as it arrives.
        """
        if not isinstance(self.content, str):
            return self
        if fetcher is None:
            return Upload(self.name, UrlError("URLs are not fetched by this server: send the file itself"))
        try:
            return Upload(self.name, await fetcher.fetch(self.content, count))
        except ImageError as error:
            return Upload(self.name, error)


@dataclass(frozen=True)
class Body(Generic[Options]):
    """A request that was read: its options, and its images in order."""

    options: Options
    uploads: list[Upload]


async def read_body(
    request: Request, options: type[Options], from_json: type[Images], parsing: Parsing, max_images: int
) -> Body[Options]:
    """Read the options and images of a request.

    Args:
        request: whose body to read.
        options: the record of the form's fields.
        from_json: the record of a JSON body: the same fields and `images`.
        parsing: where bodies are parsed.
        max_images: in one request.

    Raises:
        MalformedBodyError, UnsupportedBodyError, BodyTooLargeError: it can't be parsed.
        RequestValidationError: it doesn't fit the record.
        BusyError: it can't be parsed in time.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        form = await read_form(request, parsing, max_images)
        return await parsing.run(lambda: _from_form(form, options, max_images))
    if kind == "application/json":
        return await _read_json(request, parsing, lambda plain: _from_json(plain, options, from_json, max_images))
    raise unsupported(kind, "multipart/form-data or application/json")


async def read_record(request: Request, record: type[Record], parsing: Parsing) -> Record:
    """Read a JSON body as one record; errors as in `read_body`."""
    if media_type(request) != "application/json":
        raise unsupported(media_type(request), "application/json")
    return await _read_json(request, parsing, lambda plain: validated(record, plain))


def media_type(request: Request) -> str:
    """The media type of the body, in lower case without parameters; application/json for every type of JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return "application/json" if kind.endswith("+json") else kind


def unsupported(kind: str, wanted: str) -> UnsupportedBodyError:
    """The error about a body of another media type than those wanted."""
    return UnsupportedBodyError(f"{kind[:100] or 'no content type'}: send {wanted}")


async def _read_json(request: Request, parsing: Parsing, made_of: Callable[[Any], T]) -> T:
    """What is made of a JSON body, in a thread."""
    chunks = [chunk async for chunk in request.stream()]
    return await parsing.run(lambda: made_of(_parsed(b"".join(chunks), parsing.limits)))


def _parsed(content: bytes, limits: ParseLimits) -> Any:
    try:
        return JsonReader(limits).parse(content)
    except ValueError as error:
        message = f"not JSON: {error}"
        raise RequestValidationError([{"type": "json_invalid", "loc": (), "msg": message}]) from None


def _from_json(plain: Any, options: type[Options], from_json: type[Images], max_images: int) -> Body[Options]:
    images = plain.get("images") if isinstance(plain, dict) else None
    if isinstance(images, list) and images:
        check_count(len(images), max_images)
    read = validated(from_json, plain)
    given = {name: getattr(read, name) for name in options.model_fields}
    uploads = [_from_source(source, row) for row, source in enumerate(read.images)]
    return Body(options.model_construct(**given), uploads)


def _from_source(source: ImageSource, row: int) -> Upload:
    name = source.name or f"image {row + 1}"
    if source.url is not None:
        return Upload(name, source.url)
    try:
        return Upload(name, source.decoded())
    except ImageError as error:
        return Upload(name, error)


def _from_form(form: Form, options: type[Options], max_images: int) -> Body[Options]:
    uploads = uploads_of(form)
    check_count(len(uploads), max_images)
    return Body(validated(options, form.fields()), uploads)


def uploads_of(form: Form) -> list[Upload]:
    """The images of a form: its files, and the URLs in its fields `urls`.

    Raises:
        MalformedBodyError: a file in a field that is not for images.
    """
    uploads: list[Upload] = []
    for field, value in form.items:
        if isinstance(value, FormFile):
            if field not in FILES:
                raise MalformedBodyError(f"file field {field[:100]!r}: send images as the field 'images'")
            uploads.append(Upload(value.name or f"image {len(uploads) + 1}", value.content))
        elif field == "urls":
            uploads.append(Upload(value[:200], value if len(value) <= URL_CHARACTERS else _too_long(value)))
    return uploads


def _too_long(url: str) -> UrlError:
    return UrlError(f"a URL of {len(url):,} characters, the limit is {URL_CHARACTERS:,}: send the file itself")


def validated(record: type[Record], plain: Any) -> Record:
    """A checked record.

    A list stops at its first error and an object has few fields, so there are never thousands of errors.

    Raises:
        RequestValidationError: the values don't fit the record.
    """
    try:
        return record.model_validate(plain)
    except ValidationError as error:
        raise RequestValidationError(
            error.errors(include_url=False, include_context=False, include_input=False)
        ) from None


def check_count(count: int, limit: int) -> None:
    """Check the number of images of a request.

    Raises:
        BodyTooLargeError: more than the limit.
        MalformedBodyError: none.
    """
    if count > limit:
        raise BodyTooLargeError(f"more than {limit} images: send them in several requests")
    if not count:
        raise MalformedBodyError("no images: send at least one, as files in the field 'images'")
