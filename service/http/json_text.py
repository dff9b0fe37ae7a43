"""Parses JSON within limits: values and bytes are counted before any object is built."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from service import ceilings
from service.errors import BodyTooLargeError
from service.http.limits import ParseLimits

LONG: Final = 16 * 1024  # bytes; the longest text, a URL, has 12 288 when every character is escaped
WINDOW: Final = 2**20  # bytes that are counted in one call, which keeps all other threads waiting
REST_OF_STRING: Final = re.compile(rb'(?:[^"\\]|\\.)*"', re.DOTALL)
MAX_DIGITS: Final = 20  # of an integer; those of 64 bits have 19 and a sign
LONG_FIELD: Final = "content"  # the only field that may be longer than `LONG`: an image in base64


class JsonReader:
    """Parses the JSON texts of one request, which share its limits.

    Strings that are longer than `LONG` are cut out before the text is parsed, because the parser keeps all other
    threads waiting: 32 MiB of base64 would block the server for 100 ms.

    Args:
        limits: of all texts together.
    """

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._values_left, self._bytes_left = limits.values, limits.text_bytes
        self._strings_left = 2 * limits.values  # a value may have a name
        self._long: dict[str, bytes] = {}

    def parse(self, text: bytes) -> Any:
        """The value of a JSON text.

        Raises:
            ValueError: not JSON, or nested too deeply.
            BodyTooLargeError: more values, text or fields than the limits allow.
        """
        short = self._cut(text)
        self._bytes_left -= len(short)
        if self._bytes_left < 0:
            raise BodyTooLargeError(
                f"more than {self._limits.text_bytes:,} bytes of text beside the images: send fewer or shorter names"
            )
        try:
            return json.loads(
                short.decode(), object_pairs_hook=self._object, parse_int=_integer, parse_constant=_no_constant
            )
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def _cut(self, text: bytes) -> bytes:
        """The text with a short string in place of each long one; all values are counted."""
        pieces: list[bytes] = []
        kept = outside = 0
        for start, end in _strings(text):
            self._count(text, outside, start)
            self._strings_left -= 1
            if self._strings_left < 0:
                raise self._too_many()
            outside = end + 1
            if end - start > LONG:
                pieces += text[kept : start + 1], self._stand_in(text[start + 1 : end])
                kept = end
        self._count(text, outside, len(text))
        return b"".join([*pieces, text[kept:]]) if pieces else text

    def _count(self, text: bytes, start: int, end: int) -> None:
        """Count the values that begin in this part, which has no strings, and the string after it."""
        for at in range(start, end, WINDOW):
            window = at, min(at + WINDOW, end)
            self._values_left -= sum(text.count(mark, *window) for mark in (b",", b"[", b"{"))
            if self._values_left < 0:
                raise self._too_many()

    def _too_many(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"more than {self._limits.values:,} values: send fewer names, words or images in one request"
        )

    def _stand_in(self, long: bytes) -> bytes:
        """A string that no field but `LONG_FIELD` accepts, because it is too long and has a control character."""
        name = f"{len(self._long):04}".rjust(ceilings.URL_CHARACTERS + 1)
        self._long["\0" + name] = long
        return b"\\u0000" + name.encode()

    def _object(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > ceilings.PARAMETERS:
            raise BodyTooLargeError(f"an object with {len(pairs):,} fields, the limit is {ceilings.PARAMETERS}")
        for name, _ in pairs:
            if len(name) > ceilings.FIELD_NAME_CHARACTERS:
                raise BodyTooLargeError(
                    f"field {name[:20].strip()!r}: its name has more than {ceilings.FIELD_NAME_CHARACTERS} characters"
                )
        return {name: self._restored(value) if name == LONG_FIELD else value for name, value in pairs}

    def _restored(self, value: Any) -> Any:
        """The long string that the value stands in for, with the escaped slashes of some JSON writers; else itself."""
        long = self._long.get(value) if isinstance(value, str) else None
        return value if long is None else long.replace(b"\\/", b"/").decode("utf-8", "replace")


def _strings(text: bytes) -> Iterator[tuple[int, int]]:
    """(first quote, last quote) of each string, in order.

    Raises:
        ValueError: a string that does not end, or a long one with an escaped quote, which base64 does not have.
    """
    start = text.find(b'"')
    while start >= 0:
        end = text.find(b'"', start + 1)
        if end > 0 and text[end - 1] == ord("\\"):
            rest = REST_OF_STRING.match(text, start + 1, start + LONG)
            end = -1 if rest is None else rest.end() - 1
        if end < 0:
            raise ValueError(f"the string at byte {start:,} does not end, or has quotes and is too long")
        yield start, end
        start = text.find(b'"', end + 1)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits, the limit is {MAX_DIGITS}")
    return int(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
