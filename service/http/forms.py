"""The fields and files of a form, in order."""

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
OBJECTS: Final = ("classes", "parameters", "negatives", "no", "support")  # JSON objects
MAX_FIELDS: Final = 20_000  # a class name may be a field of its own
MAX_FIELD_BYTES: Final = 8 * 2**20


@dataclass(frozen=True)
class FormFile:
    """A file as it arrived; its name holds printable characters alone."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Form:
    """Args: (name of the field, its text or file), in the order of the body."""

    items: Sequence[tuple[str, str | FormFile]]

    def files(self) -> Iterator[tuple[str, FormFile]]:
        """The files, each with the name of its field."""
        return ((field, value) for field, value in self.items if isinstance(value, FormFile))

    def fields(self) -> dict[str, Any]:
        """Text fields by name; lists and objects are written in JSON, and the names of classes and the labels of images
        may be a field each.

        Raises:
            MalformedBodyError: a field is given twice that may be given once.
        """
        texts: dict[str, list[str]] = {}
        for field, value in self.items:
            if isinstance(value, str) and field != "urls":
                texts.setdefault(field, []).append(value)
        read = {field: [_value(field, text) for text in given] for field, given in texts.items()}
        return {field: _joined(field, values) for field, values in read.items() if field in LISTS or values != [""]}


async def read_form(request: Request, max_files: int) -> Form:
    """A form of at most so many files.

    Raises:
        MalformedBodyError: not multipart/form-data.
        BodyTooLargeError: more files.
    """
    try:
        async with request.form(max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
            return Form([(field, await _read(value)) for field, value in form.multi_items()])
    except HTTPException as error:
        if "Too many files" in error.detail:
            raise BodyTooLargeError(f"more than {max_files} files: send them in several requests") from None
        raise MalformedBodyError(f"not multipart/form-data: {error.detail}") from None
    except (ValueError, LookupError) as error:  # an unknown charset, a boundary that is none
        raise MalformedBodyError(f"not multipart/form-data: {error}") from None


async def _read(value: UploadFile | str) -> str | FormFile:
    return value if isinstance(value, str) else FormFile(_clean(value.filename), await value.read())


def _clean(name: str | None) -> str:
    return "".join(character for character in name or "" if character.isprintable())[:200]


def _value(field: str, text: str) -> Any:
    """JSON where the field may hold some and this looks like it: a class name may begin with a bracket."""
    objects = field in OBJECTS and text[:1] == "{"
    lists = text[:1] == "[" and (field in LISTS or field not in OBJECTS)
    if not (objects or lists):
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _joined(field: str, values: list[Any]) -> Any:
    """One value; those of lists are joined, and an object in the place of a list stays one."""
    if field in LISTS and not (len(values) == 1 and isinstance(values[0], dict)):
        return [each for value in values for each in (value if isinstance(value, list) else [value])]
    if len(values) > 1 and field not in REPEATED:
        raise MalformedBodyError(f"field {field[:100]!r} is given {len(values)} times: give it once")
    return values if len(values) > 1 else values[0]
