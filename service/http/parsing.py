"""Parses bodies in threads of their own, so that the event loop goes on, each step within a time limit."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from service.errors import BusyError
from service.http.limits import ParseLimits
from service.settings import Settings
from service.threads import in_thread

T = TypeVar("T")

THREADS: Final = 2  # parsers share one interpreter lock: more threads would not be faster


@dataclass(frozen=True)
class Parsing:
    """Where bodies are parsed.

    Args:
        threads: a pool for parsing alone.
        limits: on what is built of one body.
        timeout_s: for one step, the wait for a thread included.
    """

    threads: ThreadPoolExecutor
    limits: ParseLimits
    timeout_s: float

    @staticmethod
    def of(settings: Settings) -> "Parsing":
        """With new threads."""
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="parse")
        return Parsing(threads, ParseLimits.of(settings), settings.deadline_s)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of one step.

        Raises:
            BusyError: it takes too long, or other bodies do.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                return await in_thread(self.threads, work)
        except TimeoutError:
            raise BusyError(f"the body was not parsed within {self.timeout_s:g} s: try again later", 1.0) from None
