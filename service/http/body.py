"""Reads a multipart or JSON body: checked options, and the bytes of each image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import Request

from service.errors import BodyTooLargeError, MalformedBodyError, UnsupportedBodyError, UrlError
from service.http.forms import Form, FormFile, read_form
from service.http.records import Asked, Images, ImageSource
from service.security.fetching import Fetcher
from vlm_ood.errors import ImageError

Options = TypeVar("Options", bound=Asked)

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
    request: Request, options: type[Options], from_json: type[Images], max_images: int
) -> Body[Options]:
    """Read the options and images of a request.

    Args:
        request: whose body to read.
        options: the record of the form's fields.
        from_json: the record of a JSON body: the same fields and `images`.
        max_images: in one request.

    Raises:
        MalformedBodyError, UnsupportedBodyError, BodyTooLargeError: it can't be parsed.
        RequestValidationError: it doesn't fit the record.
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        return await _from_form(request, options, max_images)
    if kind == "application/json":
        return await _from_json(request, options, from_json, max_images)
    raise UnsupportedBodyError(f"{kind[:100] or 'no content type'}: send multipart/form-data or application/json")


def media_type(request: Request) -> str:
    """The media type of the body, in lower case without parameters; application/json for every type of JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return "application/json" if kind.endswith("+json") else kind


async def _from_json(
    request: Request, options: type[Options], from_json: type[Images], max_images: int
) -> Body[Options]:
    content = await request.body()
    try:
        parsed = from_json.model_validate_json(content)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
    check_count(len(parsed.images), max_images)
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
    form = await read_form(request, max_images)
    uploads = uploads_of(form)
    check_count(len(uploads), max_images)
    return Body(validated(options, form), uploads)


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
            uploads.append(Upload(value[:200], value))
    return uploads


def validated(options: type[Options], form: Form) -> Options:
    """The form's fields as a checked record.

    Raises:
        MalformedBodyError, RequestValidationError: they don't fit it.
    """
    try:
        return options.model_validate(form.fields())
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None


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
