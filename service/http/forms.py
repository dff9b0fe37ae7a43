"""Reads the fields and files of a form."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.errors import BodyTooLargeError, MalformedBodyError

LISTS: Final = ("classes", "labels")  # may be repeated, or one JSON list
REPEATED: Final = (*LISTS, "templates")
JSON_LISTS: Final = (*REPEATED, "no_templates")
OBJECTS: Final = ("classes", "parameters", "negatives", "no", "support")  # JSON objects
MAX_FIELDS: Final = 20_000  # a class name may be a field of its own
MAX_FIELD_BYTES: Final = 8 * 2**20


@dataclass(frozen=True)
class FormFile:
    """An uploaded file; its name has printable characters only, at most 200."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Form:
    """A form.

    Args:
        items: (name of the field, its text or file), in the order of the body.
    """

    items: Sequence[tuple[str, str | FormFile]]

    def files(self) -> Iterator[tuple[str, FormFile]]:
        """(name of the field, file) of each file, in order."""
        return ((field, value) for field, value in self.items if isinstance(value, FormFile))

    def fields(self) -> dict[str, Any]:
        """Text fields by name. Lists and objects are JSON; class names and labels may also be one field each.

        Raises:
            MalformedBodyError: a field that may be given once is given several times.
        """
        texts: dict[str, list[str]] = {}
        for field, value in self.items:
            if isinstance(value, str) and field != "urls":
                texts.setdefault(field, []).append(value)
        read = {field: [_value(field, text) for text in given] for field, given in texts.items()}
        return {field: _joined(field, values) for field, values in read.items() if field in LISTS or values != [""]}


async def read_form(request: Request, max_files: int) -> Form:
    """Read a form with at most `max_files` files.

    Raises:
        MalformedBodyError: not multipart/form-data.
        BodyTooLargeError: it has more files.
    """
    try:
        async with request.form(max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
            return Form([(field, await _read(value)) for field, value in form.multi_items()])
    except HTTPException as error:
        if "Too many files" in error.detail:
            raise BodyTooLargeError(f"more than {max_files} files: send them in several requests") from None
        raise MalformedBodyError(f"not multipart/form-data: {error.detail}") from None
    except (ValueError, LookupError) as error:  # an unknown charset, an invalid boundary
        raise MalformedBodyError(f"not multipart/form-data: {error}") from None


async def _read(value: UploadFile | str) -> str | FormFile:
    return value if isinstance(value, str) else FormFile(_clean(value.filename), await value.read())


def _clean(name: str | None) -> str:
    return "".join(character for character in name or "" if character.isprintable())[:200]


def _value(field: str, text: str) -> Any:
    """The parsed JSON if the field may hold JSON and the text is valid JSON, else the text (a name such as "[a")."""
    objects = field in OBJECTS and text[:1] == "{"
    lists = field in JSON_LISTS and text[:1] == "["
    if not (objects or lists):
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _joined(field: str, values: list[Any]) -> Any:
    """The values of one field as one: lists are joined; an object given in place of a list stays an object."""
    if field in LISTS and not (len(values) == 1 and isinstance(values[0], dict)):
        return [each for value in values for each in (value if isinstance(value, list) else [value])]
    if len(values) > 1 and field not in REPEATED:
        raise MalformedBodyError(f"field {field[:100]!r} is given {len(values)} times: give it once")
    return values if len(values) > 1 else values[0]
