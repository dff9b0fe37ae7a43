"""Collects the parts of a multipart body as they arrive, within limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BodyTooLargeError, MalformedBodyError
from service.http.limits import ParseLimits

MAX_NAME: Final = 200  # characters of a file name that are kept


@dataclass(frozen=True)
class FormFile:
    """An uploaded file; its name has printable characters only, at most 200."""

    name: str
    content: bytes


Part = tuple[str, str | FormFile]
"""The name of a field, and its text or file."""


class MultipartReader:
    """Reads the parts of one body.

    Args:
        content_type: of the request; it has the boundary.
        limits: on the text fields.
        max_files: in the body.

    Raises:
        MalformedBodyError: there is no boundary, or it is too long.
    """

    def __init__(self, content_type: str, limits: ParseLimits, max_files: int) -> None:
        self._limits, self._max_files = limits, max_files
        self._parts: list[Part] = []
        self._header, self._value, self._data = bytearray(), bytearray(), bytearray()
        self._field: str | None = None
        self._file: str | None = None
        self._files = self._texts = self._text_bytes = 0
        self._complete = False
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedBodyError("not multipart/form-data: the content type has no boundary")
        with _malformed():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin,
                    "on_part_data": self._add,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )

    def write(self, data: bytes) -> None:
        """Read the next bytes of the body.

        Raises:
            MalformedBodyError: not a multipart body.
            BodyTooLargeError: too many files or fields, or too much text.
        """
        with _malformed():
            self._parser.write(data)

    def parts(self) -> list[Part]:
        """All parts, after the last byte.

        Raises:
            MalformedBodyError: the last boundary is missing.
        """
        if not self._complete:
            raise MalformedBodyError("not multipart/form-data: the last boundary is missing")
        return self._parts

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            options = parse_options_header(bytes(self._value))[1]
            name, file_name = options.get(b"name"), options.get(b"filename")
            self._field = None if name is None else name.decode("utf-8", "replace")
            self._file = None if file_name is None else _clean(file_name.decode("utf-8", "replace"))
        self._header.clear()
        self._value.clear()

    def _begin(self) -> None:
        if self._field is None:
            raise MalformedBodyError("not multipart/form-data: a part has no Content-Disposition with a name")
        if self._file is None:
            self._texts += 1
        else:
            self._files += 1
        if self._files > self._max_files:
            raise BodyTooLargeError(f"more than {self._max_files} files: send them in several requests")
        if self._texts > self._limits.fields:
            raise BodyTooLargeError(f"more than {self._limits.fields:,} fields: send fewer class names, labels or URLs")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._text_bytes += end - start
            if self._text_bytes > self._limits.text_bytes:
                raise BodyTooLargeError(
                    f"field {self._name}: more than {self._limits.text_bytes:,} bytes of text in all fields together: "
                    "send fewer or shorter names, and images as files"
                )
        self._data += data[start:end]

    def _end(self) -> None:
        field, content = self._field or "", bytes(self._data)
        try:
            value = content.decode() if self._file is None else FormFile(self._file, content)
        except UnicodeDecodeError:
            raise MalformedBodyError(f"field {self._name} is not UTF-8") from None
        self._parts.append((field, value))
        self._data.clear()
        self._field = self._file = None

    def _finish(self) -> None:
        self._complete = True

    @property
    def _name(self) -> str:
        """The name of the present field, for errors."""
        return repr((self._field or "")[:100])


@contextmanager
def _malformed() -> Iterator[None]:
    """Raise a MalformedBodyError where the parser raises its own error."""
    try:
        yield
    except FormParserError as error:
        raise MalformedBodyError(f"not multipart/form-data: {str(error)[:200]}") from None


def _clean(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:MAX_NAME]
