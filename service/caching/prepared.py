"""What takes long to make, in memory: each is made once however many ask, and the least recently used go first."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, Literal, TypeVar

from service.caching.flight import SingleFlight
from service.caching.lru import ByteLru
from service.errors import BusyError, PreparingError
from vlm_ood.errors import VlmOodError

State = Literal["cold", "preparing", "ready", "failed"]

MAX_MAKING: Final = 64
MAX_ERRORS: Final = 1000  # remembered, so that `state` can tell why a thing could not be made


S = TypeVar("S")
V = TypeVar("V")


class PreparedCache(Generic[S, V]):
    """A bounded cache that makes what it lacks.

    Args:
        make: from a spec to what is made of it.
        noun: what is made, for errors: "detector".
        digest: the key of a spec: specs with equal keys share what is made, and the error if it can't be made.
        max_bytes: of all together; a larger one is used and forgotten.
        wait_s: how long a caller waits for one that isn't there yet.
        nbytes: how much memory one takes.
    """

    def __init__(
        self,
        make: Callable[[S], Coroutine[Any, Any, V]],
        noun: str,
        *,
        digest: Callable[[S], str],
        max_bytes: int,
        wait_s: float,
        nbytes: Callable[[V], int],
    ) -> None:
        self._make, self._noun, self._wait_s, self._nbytes = make, noun, wait_s, nbytes
        self._digest = digest
        self._kept: ByteLru[str, V] = ByteLru(max_bytes)
        self._making: SingleFlight[str, V] = SingleFlight(abandon=False)
        self._errors: dict[str, str] = {}

    @property
    def nbytes(self) -> int:
        """Of all together."""
        return self._kept.nbytes

    async def get(self, spec: S) -> V:
        """What is made of the spec, within the time that a caller waits.

        Raises:
            BusyError: too many are being made.
            PreparingError: it takes longer; it goes on being made.
            VlmOodError: it can't be made.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                return await self.made(spec)
        except TimeoutError:
            raise PreparingError(f"the {self._noun} is still being prepared: ask again", 5.0) from None

    async def made(self, spec: S) -> V:
        """What is made of the spec, however long that takes; errors as in `get`."""
        digest = self._digest(spec)
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        if digest not in self._making and len(self._making) >= MAX_MAKING:
            raise BusyError(f"{MAX_MAKING} {self._noun}s are being prepared: try again in a moment", 5.0)
        return await self._making.run(digest, lambda: self._work(spec))

    def state(self, spec: S) -> tuple[State, str | None]:
        """How far it is, and why it failed if it did."""
        digest = self._digest(spec)
        if digest in self._kept:
            return "ready", None
        if digest in self._making:
            return "preparing", None
        return ("failed", self._errors[digest]) if digest in self._errors else ("cold", None)

    async def close(self) -> None:
        """Stop what is being made."""
        await self._making.close()

    async def _work(self, spec: S) -> V:
        digest = self._digest(spec)
        try:
            value = await self._make(spec)
        except VlmOodError as error:
            self._remember(digest, str(error))
            raise
        self._errors.pop(digest, None)
        self._kept.put(digest, value, self._nbytes(value))
        return value

    def _remember(self, digest: str, message: str) -> None:
        self._errors[digest] = message
        if len(self._errors) > MAX_ERRORS:
            oldest = next(iter(self._errors))
            del self._errors[oldest]
