"""Keeps log lines safe to read and to store: no control characters, no secrets, bounded texts."""

import re
from collections.abc import Mapping
from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

MAX_TEXT: Final = 1000  # characters of one value
MAX_TRACEBACK: Final = 20_000
MAX_ITEMS: Final = 100  # of a list
_TRACEBACK: Final = "exception"
_SECRETS: Final = (
    (re.compile(r"\b(bearer|basic)\s+[^\s'\",]+", re.IGNORECASE), r"\1 ***"),  # the header Authorization
    (re.compile(r"\bvo_[0-9a-z]{12}_[\w-]+"), "vo_***"),  # a key, as `security.keys` makes it
    (re.compile(r"(://)[^/\s@'\"]*@"), r"\1***@"),  # the user and password of a URL
)


def sanitised(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The event with every text in it made safe; a processor of structlog."""
    return {key: _lines(value) if key == _TRACEBACK else _safe(value) for key, value in event.items()}


def _lines(traceback: Any) -> str:
    return "\n".join(_plain(line) for line in _cut(_without_secrets(str(traceback)), MAX_TRACEBACK).split("\n"))


def _safe(value: Any) -> Any:
    """Texts are made safe; other values too, as texts, but for numbers, truth values and what contains them."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_text(key): _safe(each) for key, each in list(value.items())[:MAX_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(each) for each in list(value)[:MAX_ITEMS]]
    return _text(value)


def _text(value: Any) -> str:
    return _plain(_cut(_without_secrets(str(value)), MAX_TEXT))


def _without_secrets(text: str) -> str:
    for pattern, mark in _SECRETS:
        text = pattern.sub(mark, text)
    return text


def _cut(text: str, limit: int) -> str:
    """The text within the limit; of a long one the end is kept too, where an error says why."""
    return text if len(text) <= limit else f"{text[: limit // 2]} [...] {text[-limit // 2 :]}"


def _plain(text: str) -> str:
    """The text with control characters, and others that can't be seen, escaped."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
