"""Word lists with one word per line: their limits, and the lines that are refused.

A list may be uploaded to a server, and its words go into prompts, tables and pages. So a list is read only up to a
size, and a line with control characters, invisible characters or braces refuses the whole list, by its number.
"""

import os
import unicodedata
from pathlib import Path

from vlm_ood.errors import LexiconError

MAX_BYTES = 64 * 2**20
MAX_WORDS = 500_000  # WordNet has 136 139 nouns and adjectives
MAX_LETTERS = 100  # the longest WordNet lemma has 71

_REFUSED = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cs": "half a character",
    "Co": "a private character",
    "Cn": "a character without meaning",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}


def clean_word(word: str) -> str:
    """Lower case, blanks for underscores, single blanks, composed accents.

    WordNet writes `ice_cream` and marks where an adjective may stand: `galore(ip)`; the mark goes.
    """
    for mark in ("(a)", "(p)", "(ip)"):
        word = word.removesuffix(mark)
    return " ".join(unicodedata.normalize("NFC", word).replace("_", " ").lower().split())


def read_words(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The words of a UTF-8 text file, one per line: cleaned, sorted, each once; blank lines don't count.

    Raises:
        FileNotFoundError: no such file.
        LexiconError: a file that is too large (it is not read then), not text, or refused by `parse_words`.
    """
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise LexiconError(f"{path} has {size:,} bytes, a word list at most {MAX_BYTES:,}: split it")
    return parse_words(Path(path).read_bytes(), str(path))


def parse_words(content: bytes, what: str = "the word list") -> tuple[str, ...]:
    """Cleaned words, sorted, each once; blank lines don't count.

    Args:
        content: UTF-8 with or without a byte order mark, lines ended by LF or CRLF.
        what: the list's name in messages.

    Raises:
        LexiconError: too large, not UTF-8, too many words, a word that is too long, control characters or braces,
            or nothing left.
    """
    if len(content) > MAX_BYTES:
        raise LexiconError(f"{what} has {len(content):,} bytes, a word list at most {MAX_BYTES:,}: split it")
    if content.count(b"\n") > MAX_WORDS:
        raise LexiconError(f"{what} has over {MAX_WORDS:,} lines: split it")
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise LexiconError(
            f"{what} is not UTF-8 text (byte {error.start}): save it as UTF-8, one word per line"
        ) from None
    words = {clean_word(line) for number, line in enumerate(lines, 1) if _check(line, f"{what}, line {number}")}
    words.discard("")
    if not words:
        raise LexiconError(f"{what} holds no words: give one per line")
    return tuple(sorted(words))


def _check(line: str, where: str) -> bool:
    """Whether the line holds a word; a blank line doesn't.

    Raises:
        LexiconError: it holds something else.
    """
    if len(line) > MAX_LETTERS:
        raise LexiconError(f"{where} has {len(line)} characters, a word at most {MAX_LETTERS}: give one word per line")
    if "{" in line or "}" in line:
        raise LexiconError(f"{where} holds a brace, which belongs to prompt templates: give the bare word")
    if not line.isprintable():
        for character in line:
            refused = _REFUSED.get(unicodedata.category(character))
            if refused:
                raise LexiconError(f"{where} holds {refused} (U+{ord(character):04X}): give plain words, one per line")
    return bool(line.strip())
