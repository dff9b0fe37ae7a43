"""Fitted detectors in memory: each is made once however many requests want it, and the least recently used go first."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from service.caching.flight import SingleFlight
from service.caching.lru import ByteLru
from service.caching.sizes import bytes_of
from service.detectors.maker import Prepared
from service.errors import BusyError, PreparingError
from vlm_ood.errors import VlmOodError
from vlm_ood.tasks import DetectorSpec

State = Literal["cold", "preparing", "ready", "failed"]

MAX_MAKING: Final = 64
MAX_ERRORS: Final = 1000  # remembered, so that `state` can tell why a detector could not be made


class PreparedDetectors:
    """A cache of fitted detectors that makes what it lacks; of one event loop.

    Args:
        make: from a spec to a fitted detector.
        max_bytes: of all detectors together; a larger one is made anew at each use.
        wait_s: how long a caller waits for a detector that is being made.
    """

    def __init__(self, make: Callable[[DetectorSpec], Awaitable[Prepared]], *, max_bytes: int, wait_s: float) -> None:
        self._make = make
        self._wait_s = wait_s
        self._kept: ByteLru[str, Prepared] = ByteLru(max_bytes)
        self._making: SingleFlight[str, Prepared] = SingleFlight(abandon=False)
        self._errors: dict[str, str] = {}

    @property
    def nbytes(self) -> int:
        """Of the detectors that are kept."""
        return self._kept.nbytes

    async def get(self, spec: DetectorSpec) -> Prepared:
        """The detector, made now if need be.

        Raises:
            BusyError: too many are being made.
            PreparingError: it takes longer than a caller waits; it goes on being made.
            VlmOodError: it can't be made.
        """
        kept = self._kept.get(spec.digest)
        if kept is not None:
            return kept
        if spec.digest not in self._making and len(self._making) >= MAX_MAKING:
            raise BusyError(f"{MAX_MAKING} detectors are being prepared: try again in a moment", 5.0)
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._making.run(spec.digest, lambda: self._made(spec))
        except TimeoutError:
            raise PreparingError(f"a detector of {spec.method} is still being prepared: ask again", 5.0) from None

    def state(self, spec: DetectorSpec) -> tuple[State, str | None]:
        """How far the preparation is, and the message of the error if it failed."""
        digest = spec.digest
        if digest in self._kept:
            return "ready", None
        if digest in self._making:
            return "preparing", None
        return ("failed", self._errors[digest]) if digest in self._errors else ("cold", None)

    async def close(self) -> None:
        """Cancel what is being made."""
        await self._making.close()

    async def _made(self, spec: DetectorSpec) -> Prepared:
        try:
            prepared = await self._make(spec)
        except VlmOodError as error:
            self._remember(spec.digest, str(error))
            raise
        self._errors.pop(spec.digest, None)
        self._kept.put(spec.digest, prepared, bytes_of([prepared.fitted.task, prepared.fitted.state]))
        return prepared

    def _remember(self, digest: str, message: str) -> None:
        self._errors[digest] = message
        if len(self._errors) > MAX_ERRORS:
            oldest = next(iter(self._errors))
            del self._errors[oldest]
