"""JSON within limits: the same values as the standard parser, and long images beside it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BodyTooLargeError
from service.http.json_text import LONG, JsonReader
from service.http.limits import ParseLimits

LIMITS = ParseLimits(values=1000, text_bytes=100_000, fields=10)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FLOATS | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=40
)


def parse(text: str | bytes, limits: ParseLimits = LIMITS) -> Any:
    return JsonReader(limits).parse(text if isinstance(text, bytes) else text.encode())


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_values_are_those_of_the_standard_parser(value: Any, ascii_only: bool, indent: int | None) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only, indent=indent)) == value


@pytest.mark.parametrize("length", [LONG - 1, LONG, LONG + 1, 10 * LONG])
def test_long_images_come_back_whole_and_in_their_places(length: int) -> None:
    images = [{"content": letter * (length + row), "name": letter} for row, letter in enumerate("abc")]
    assert parse(json.dumps({"images": images, "classes": ["a"]})) == {"images": images, "classes": ["a"]}


def test_slashes_may_be_escaped_in_a_long_image() -> None:
    content = "A/" * LONG
    assert parse(json.dumps({"content": content}).replace("/", "\\/")) == {"content": content}


@pytest.mark.parametrize("field", ["name", "contents"])
def test_a_long_text_elsewhere_is_too_long_for_any_field(field: str) -> None:
    found = parse(json.dumps({field: "x" * (LONG + 1)}))[field]
    assert len(found) > 2048
    assert not found.isprintable()


@pytest.mark.parametrize(
    "text",
    ["", "{", '"a', "[1,]", "NaN", "[Infinity]", '"\\', "\ufeff{}", b'"\xff"', '"' + '\\"' * LONG + '"', "9" * 21],
)
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [("[1,2,3]", 3), ('["a,b","c,d"]', 2), ('{"a":1,"b":[2,3]}', 4), ("[[[]]]", 3), ('["\\",","a"]', 2), ("7", 0)],
)
def test_values_are_counted_outside_strings(text: str, values: int) -> None:
    parse(text, ParseLimits(values, 1000, 1))
    if values:
        with pytest.raises(BodyTooLargeError, match=f"more than {values - 1} values"):
            parse(text, ParseLimits(values - 1, 1000, 1))


def test_text_is_counted_without_images() -> None:
    text = json.dumps({"content": "A" * 10 * LONG, "name": "a"})
    parse(text, ParseLimits(10, 3000, 1))
    with pytest.raises(BodyTooLargeError, match="more than 100 bytes of text beside the images"):
        parse(text, ParseLimits(10, 100, 1))


def test_the_texts_of_one_request_share_its_limits() -> None:
    reader = JsonReader(ParseLimits(5, 1000, 1))
    reader.parse(b"[1, 2, 3]")
    with pytest.raises(BodyTooLargeError, match="more than 5 values"):
        reader.parse(b"[1, 2, 3]")


@pytest.mark.parametrize("fields", [64, 65])
def test_an_object_has_a_limited_number_of_fields(fields: int) -> None:
    text = json.dumps({f"k{row}": row for row in range(fields)})
    if fields <= 64:
        assert len(parse(text)) == fields
    else:
        with pytest.raises(BodyTooLargeError, match="65 fields, the limit is 64"):
            parse(text)
