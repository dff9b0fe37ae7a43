"""Reads the fields and files of a form."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from starlette.requests import Request

from service import ceilings
from service.errors import BodyTooLargeError, MalformedBodyError
from service.http.json_text import JsonReader
from service.http.limits import ParseLimits
from service.http.multipart import FormFile, MultipartReader, Part
from service.http.parsing import Parsing

LISTS: Final = ("classes", "labels")  # may be repeated, or one JSON list
REPEATED: Final = (*LISTS, "templates")
JSON_LISTS: Final = (*REPEATED, "no_templates")
OBJECTS: Final = ("classes", "parameters", "negatives", "no", "support", "costs")  # JSON objects
PORTION: Final = 2**18  # bytes that are parsed in one step


@dataclass(frozen=True)
class Form:
    """A form.

    Args:
        items: the parts, in the order of the body.
        limits: on the JSON in its fields.
    """

    items: Sequence[Part]
    limits: ParseLimits = field(default_factory=ParseLimits)

    def files(self) -> Iterator[tuple[str, FormFile]]:
        """(name of the field, file) of each file, in order."""
        return ((name, value) for name, value in self.items if isinstance(value, FormFile))

    def fields(self) -> dict[str, Any]:
        """Text fields by name. Lists and objects are JSON; class names and labels may also be one field each.

        Raises:
            MalformedBodyError: a field that may be given once is given several times.
            BodyTooLargeError: too many different fields, or too many values in their JSON.
        """
        texts: dict[str, list[str]] = {}
        for name, value in self.items:
            if isinstance(value, str) and name != "urls":
                texts.setdefault(name, []).append(value)
        if len(texts) > ceilings.PARAMETERS:
            raise BodyTooLargeError(f"{len(texts):,} different fields, the limit is {ceilings.PARAMETERS}")
        reader = JsonReader(self.limits)
        read = {name: [_value(reader, name, text) for text in given] for name, given in texts.items()}
        return {name: _joined(name, values) for name, values in read.items() if name in LISTS or values != [""]}


async def read_form(request: Request, parsing: Parsing, max_files: int) -> Form:
    """Read a form with at most `max_files` files.

    Raises:
        MalformedBodyError: not multipart/form-data.
        BodyTooLargeError: it has more files, fields or text.
        BusyError: it can't be parsed in time.
    """
    reader = MultipartReader(request.headers["content-type"], parsing.limits, max_files)
    async for portion in _portions(request):
        await parsing.run(partial(reader.write, portion))
    return Form(reader.parts(), parsing.limits)


async def _portions(request: Request) -> AsyncIterator[bytes]:
    """The body in parts of about `PORTION` bytes, because a step in a thread costs 0.1 ms."""
    waiting, size = list[bytes](), 0
    async for chunk in request.stream():
        waiting.append(chunk)
        size += len(chunk)
        if size >= PORTION:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _value(reader: JsonReader, field: str, text: str) -> Any:
    """The parsed JSON if the field may hold JSON and the text is valid JSON, else the text (a name such as "[a")."""
    objects = field in OBJECTS and text[:1] == "{"
    lists = field in JSON_LISTS and text[:1] == "["
    if not (objects or lists):
        return text
    try:
        return reader.parse(text.encode())
    except ValueError:
        return text


def _joined(field: str, values: list[Any]) -> Any:
    """The values of one field as one: lists are joined; an object given in place of a list stays an object."""
    if field in LISTS and not (len(values) == 1 and isinstance(values[0], dict)):
        return [each for value in values for each in (value if isinstance(value, list) else [value])]
    if len(values) > 1 and field not in REPEATED:
        raise MalformedBodyError(f"field {field[:100]!r} is given {len(values)} times: give it once")
    return values if len(values) > 1 else values[0]
