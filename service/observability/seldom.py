"""Limits how often a message is logged that an attacker can cause at will."""

import time
from typing import Final

EVERY_S: Final = 60.0


class Seldom:
    """True at most once per minute."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def now(self) -> bool:
        """Whether to log this time."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + EVERY_S
        return True
