"""Which word lists are accepted, and the errors for the others."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_ood.errors import LexiconError
from vlm_ood.lexicons import words
from vlm_ood.lexicons.words import clean_word, parse_words, read_words


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("ice_cream", "ice cream"),
        ("galore(ip)", "galore"),
        ("afraid(p)", "afraid"),
        ("chief(a)", "chief"),
        ("  St._Bernard ", "st. bernard"),
        ("cafe\u0301", "café"),
    ],
)
def test_cleaning(raw: str, clean: str) -> None:
    assert clean_word(raw) == clean


def test_words_come_sorted_and_once() -> None:
    assert parse_words(b"\xef\xbb\xbfZebra\r\nice_cream\n\nIce  cream\napple") == ("apple", "ice cream", "zebra")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"cat\n\x00\x01\x02\xff\xfe", "not UTF-8"),
        (b"cat\ndog\x00", r"line 2 holds a control character \(U\+0000\)"),
        (b"cat\tdog", "control character"),
        ("cat\n\u202egod".encode(), "line 2 holds an invisible character"),
        ("cat\u2028dog".encode(), "line separator"),
        (b"cat\na photo of a {}", "line 2 holds a brace"),
        (b"cat\n" + b"x" * 101, "line 2 has 101 characters"),
        (b"word\n" * 1_000_000, "over 500,000 lines"),
        (b"", "holds no words"),
        (b" \n__\n", "holds no words"),
    ],
)
def test_hostile_content_is_refused_with_its_reason(content: bytes, told: str) -> None:
    with pytest.raises(LexiconError, match=told):
        parse_words(content)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(words.MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))

    with pytest.raises(LexiconError, match="split it"):
        read_words(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_words_or_a_lexicon_error(content: bytes) -> None:
    try:
        found = parse_words(content)
    except LexiconError:
        return
    assert list(found) == sorted(set(found))
    assert all(word == clean_word(word) and "{" not in word for word in found)
