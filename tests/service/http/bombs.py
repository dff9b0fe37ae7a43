"""Small bodies that would make a parser or a validator do much work."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.service.fakes import in_base64, png

MIB: Final = 2**20
BOUNDARY: Final = "bomb"
JSON: Final = "application/json"
FORM: Final = f"multipart/form-data; boundary={BOUNDARY}"
IMAGE: Final = json.dumps(in_base64(png())).encode()
CLASSES: Final = b'"classes": ["red", "blue"]'


@dataclass(frozen=True)
class Bomb:
    """A body, and how it is answered.

    Args:
        name: for people.
        kind: its media type.
        make: makes the body.
        status: of the answer.
    """

    name: str
    kind: str
    make: Callable[[], bytes]
    status: int


def _repeated(before: bytes, each: bytes, after: bytes, size: int) -> Callable[[], bytes]:
    return lambda: before + each * ((size - len(before) - len(after)) // len(each)) + after


def _images(size: int) -> Callable[[], bytes]:
    return _repeated(b'{"images": [{}', b",{}", b"], " + CLASSES + b"}", size)


def _with_image(rest: bytes) -> bytes:
    return b'{"images": ' + IMAGE + b", " + rest + b"}"


def _keys(count: int) -> bytes:
    return b",".join(b'"k%d": 1' % number for number in range(count))


def _form(parts: Iterator[tuple[str, bytes]]) -> bytes:
    texts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in parts
    ]
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'.encode()
    return b"".join([*texts, file, png(), f"\r\n--{BOUNDARY}--\r\n".encode()])


def _fields(count: int, name: str, content: bytes = b"x") -> Callable[[], bytes]:
    return lambda: _form((name.format(number), content) for number in range(count))


BOMBS: Final = [
    Bomb("images of 4 MiB", JSON, _images(4 * MIB), 413),
    Bomb("images of 32 MiB", JSON, _images(32 * MIB), 413),
    Bomb("100 empty images", JSON, lambda: b'{"images": [{}' + b",{}" * 63 + b"], " + CLASSES + b"}", 422),
    Bomb("classes of 4 MiB", JSON, _repeated(_with_image(b'"classes": [1')[:-1], b",1", b"]}", 4 * MIB), 413),
    Bomb("classes of 32 MiB", JSON, _repeated(_with_image(b'"classes": [1')[:-1], b",1", b"]}", 32 * MIB), 413),
    Bomb("100 000 numbers as classes", JSON, lambda: _with_image(b'"classes": [1' + b",1" * 99_999 + b"]"), 422),
    Bomb("50 000 objects as classes", JSON, lambda: _with_image(b'"classes": [{}' + b",{}" * 50_000 + b"]"), 422),
    Bomb(
        "50 000 objects as words",
        JSON,
        lambda: _with_image(CLASSES + b', "negatives": {"words": [{}' + b",{}" * 50_000 + b"]}"),
        422,
    ),
    Bomb(
        "50 000 lists as templates",
        JSON,
        lambda: _with_image(CLASSES + b', "templates": [[]' + b",[]" * 50_000 + b"]"),
        422,
    ),
    Bomb("lists in lists", JSON, lambda: b"[" * 100_000, 422),
    Bomb("lists in lists of 4 MiB", JSON, _repeated(b"", b"[", b"", 4 * MIB), 413),
    Bomb("objects in objects", JSON, lambda: b'{"a":' * 100_000, 422),
    Bomb(
        "a thousand lists in parameters",
        JSON,
        lambda: _with_image(CLASSES + b', "parameters": {"temperature": ' + b"[" * 500 + b"]" * 500 + b"}"),
        422,
    ),
    Bomb(
        "100 000 numbers as a parameter",
        JSON,
        lambda: _with_image(CLASSES + b', "parameters": {"temperature": [1' + b",1" * 99_999 + b"]}"),
        422,
    ),
    Bomb("64 unknown fields", JSON, lambda: _with_image(_keys(63)), 422),
    Bomb("100 000 unknown fields", JSON, lambda: _with_image(_keys(100_000)), 413),
    Bomb("100 000 parameters", JSON, lambda: _with_image(CLASSES + b', "parameters": {' + _keys(100_000) + b"}"), 413),
    Bomb("one field 100 000 times", JSON, lambda: _with_image(b",".join([CLASSES] * 30_000)), 413),
    Bomb("a name of 4 MiB", JSON, lambda: _with_image(CLASSES + b', "' + b"k" * 4 * MIB + b'": 1'), 413),
    Bomb("a class of 20 MiB", JSON, lambda: _with_image(b'"classes": ["red", "' + b"x" * 20 * MIB + b'"]'), 422),
    Bomb("an integer of 4 MiB", JSON, lambda: _with_image(CLASSES + b', "top": ' + b"1" * 4 * MIB), 422),
    Bomb(
        "a decimal of 4 MiB",
        JSON,
        lambda: _with_image(CLASSES + b', "threshold": 0.' + b"1" * 4 * MIB + b', "top": 0'),
        422,
    ),
    Bomb("an integer of 32 MiB", JSON, _repeated(b'{"top": ', b"1", b"}", 32 * MIB), 413),
    Bomb("spaces of 32 MiB", JSON, _repeated(b"{", b" ", b"}", 32 * MIB), 413),
    Bomb("strings without commas", JSON, _repeated(b"[", b'"" ', b"]", 4 * MIB), 413),
    Bomb("escaped quotes", JSON, _repeated(b'["', b'\\"', b'"]', 32 * MIB), 422),
    Bomb(
        "short strings of escaped quotes", JSON, _repeated(b'["a"', b',"' + b'\\"' * 8000 + b'"', b"]", 32 * MIB), 413
    ),
    Bomb("backslashes", JSON, _repeated(b'["', b"\\\\", b'"]', 32 * MIB), 422),
    Bomb("UTF-16", JSON, lambda: _with_image(CLASSES).decode().encode("utf-16"), 422),
    Bomb("19 000 fields", FORM, _fields(19_000, "field{}"), 413),
    Bomb("20 000 fields", FORM, _fields(20_000, "field{}"), 413),
    Bomb("11 000 fields", FORM, _fields(11_000, "field{}"), 413),
    Bomb("20 000 classes", FORM, _fields(20_000, "classes"), 413),
    Bomb("11 000 times one class", FORM, _fields(11_000, "classes"), 422),
    Bomb("11 000 times one option", FORM, _fields(11_000, "top"), 400),
    Bomb("11 000 lists", FORM, _fields(11_000, "classes", b"[" + b"1," * 30 + b"1]"), 413),
    Bomb("12 fields of 8 MiB", FORM, _fields(12, "classes", b"x" * 8 * MIB), 413),
    Bomb("classes of 8 MiB in a field", FORM, _fields(1, "classes", b"[1" + b",1" * 4_000_000 + b"]"), 413),
    Bomb("classes of 7 MiB in a field", FORM, _fields(1, "classes", b"[1" + b",1" * 3_500_000 + b"]"), 413),
    Bomb("6 MiB in a field", FORM, _fields(1, "method", b"x" * 6 * MIB), 422),
    Bomb("line ends", FORM, _fields(1, "method", b"\r\n--" * MIB), 422),
    Bomb("10 000 URLs", FORM, _fields(10_000, "urls"), 413),
    Bomb("a long header", FORM, lambda: f"--{BOUNDARY}\r\nX: ".encode() + b"x" * 4 * MIB, 400),
    Bomb("many headers", FORM, lambda: f"--{BOUNDARY}\r\n".encode() + b"X: y\r\n" * MIB, 400),
    Bomb("no boundary in 32 MiB", FORM, lambda: b"-" * 32 * MIB, 400),
]
