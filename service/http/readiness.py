"""Readiness: whether an image would be answered now, tested with one at most once per second."""

import time
from typing import Final

from service.engine import Engine

FRESH_S: Final = 1.0


class Readiness:
    """Tests the engine. A success counts for a second, because the route needs no key and a forward pass costs time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._proved_at = float("-inf")

    async def prove(self) -> None:
        """Return if an image was encoded within the last second and there is a worker; otherwise encode one.

        Raises:
            VlmOodError: it can't be.
        """
        if time.monotonic() - self._proved_at > FRESH_S or self._engine.queue_state().back_in_s:
            await self._engine.probe()
            self._proved_at = time.monotonic()
