"""Time and pauses of the scheduler, which a test replaces by its own."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Clock:
    """Tells seconds since some moment, and pauses.

    Args:
        now: gives the seconds.
        sleep: pauses for so many seconds.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.now, self.sleep = now, sleep
