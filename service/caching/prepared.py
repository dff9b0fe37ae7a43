"""What takes long to make, in memory: each is made once however many ask, and the least recently used go first."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Generic, Literal, TypeVar

from service.caching.flight import SingleFlight, StillRunning
from service.caching.lru import ByteLru
from service.errors import BusyError, PreparingError
from vlm_ood.errors import VlmOodError

State = Literal["cold", "preparing", "ready", "failed"]

RETRY_S: Final = 5.0  # after which a caller is told to ask again
LINGER_S: Final = 12 * RETRY_S  # how long the making goes on for a caller that was told so
SHORT_S: Final = 0.5  # a wait that isn't counted: most things are made in less
MAX_ERRORS: Final = 1000  # remembered, so that `state` can tell why a thing could not be made


S = TypeVar("S")
V = TypeVar("V")


class PreparedCache(Generic[S, V]):
    """A bounded cache that makes what it lacks.

    Args:
        make: from a spec to what is made of it.
        noun: what is made, for errors: "detector".
        digest: the key of a spec: specs with equal keys share what is made, and the error if it can't be made.
        tenant: for whom a spec is.
        max_bytes: of all together; a larger one is used and forgotten.
        max_making: how many may be in the making at once for the requests of one tenant.
        wait_s: how long a caller waits for one that isn't there yet.
        linger_s: how long the making goes on for callers that waited so long and may ask again.
        nbytes: how much memory one takes.
        waiting: counts a caller of a tenant who waits for long, and raises an error when there are too many.
    """

    def __init__(
        self,
        make: Callable[[S], Coroutine[Any, Any, V]],
        noun: str,
        *,
        digest: Callable[[S], str],
        tenant: Callable[[S], str],
        max_bytes: int,
        max_making: int,
        wait_s: float,
        nbytes: Callable[[V], int],
        linger_s: float = LINGER_S,
        waiting: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self._make, self._noun, self._nbytes = make, noun, nbytes
        self._max_making, self._wait_s, self._linger_s = max_making, wait_s, linger_s
        self._digest, self._tenant, self._waiting = digest, tenant, waiting
        self._kept: ByteLru[str, V] = ByteLru(max_bytes)
        self._making: SingleFlight[str, V] = SingleFlight(abandon=True)
        self._makers: dict[str, str] = {}  # {digest of what is being made: the tenant that asked first}
        self._errors: dict[str, str] = {}

    @property
    def nbytes(self) -> int:
        """Of all together."""
        return self._kept.nbytes

    async def get(self, spec: S, *, stored: bool = True) -> V:
        """What is made of the spec, within the time that a caller waits.

        Args:
            spec: of what is wanted.
            stored: whether it goes on being made when no caller waits any more; if not, `keep` may still say so.

        Raises:
            BusyError: too many are being made for this tenant, or too many callers wait.
            PreparingError: it takes longer; it goes on being made for callers that ask again in time.
            VlmOodError: it can't be made.
        """
        digest = self._digest(spec)
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        self._check_room(digest, self._tenant(spec))
        try:
            return await self._awaited(digest, spec, stored)
        except StillRunning:
            raise PreparingError(f"the {self._noun} is still being prepared: ask again", RETRY_S) from None

    async def made(self, spec: S) -> V:
        """What is made of the spec, as a part of something else, however long that takes.

        Raises:
            VlmOodError: it can't be made.
        """
        digest = self._digest(spec)
        kept = self._kept.get(digest)
        return await self._run(digest, spec) if kept is None else kept

    def keep(self, spec: S) -> None:
        """Go on making it when no caller waits any more, because it was stored."""
        self._making.keep(self._digest(spec))

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

    def _check_room(self, digest: str, tenant: str) -> None:
        """Raise a BusyError if the tenant may not begin to make another one."""
        self._makers = {each: maker for each, maker in self._makers.items() if each in self._making}
        making = list(self._makers.values()).count(tenant)
        if digest not in self._making and making >= self._max_making:
            raise BusyError(
                f"{making} {self._noun}s of yours are being prepared, the limit is {self._max_making} "
                "(VLM_OOD_MAX_PREPARING): try again when one is ready",
                RETRY_S,
            )

    async def _awaited(self, digest: str, spec: S, stored: bool) -> V:
        """Wait a short time uncounted, and the rest of the time counted."""
        long_s = self._wait_s - SHORT_S
        if long_s <= 0:
            return await self._run(digest, spec, wait_s=self._wait_s, linger_s=self._linger_s, keep=stored)
        try:
            return await self._run(digest, spec, wait_s=SHORT_S, linger_s=SHORT_S, keep=stored)
        except StillRunning:
            pass
        try:
            with self._waiting(self._tenant(spec)):
                return await self._run(digest, spec, wait_s=long_s, linger_s=self._linger_s, keep=stored)
        except BusyError:
            self._making.keep(digest, self._linger_s)  # this caller, too, is told to ask again
            raise

    async def _run(self, digest: str, spec: S, **waiting: Any) -> V:
        if digest not in self._making:
            self._makers[digest] = self._tenant(spec)
        return await self._making.run(digest, lambda: self._work(digest, spec), **waiting)

    async def _work(self, digest: str, spec: S) -> V:
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
