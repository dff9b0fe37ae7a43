"""Fitted detectors in memory: each is made once however many ask, and the least recently used go first."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, Literal

from torch import Tensor

from service.detectors.maker import Prepared
from service.errors import BusyError, PreparingError
from vlm_ood.errors import VlmOodError
from vlm_ood.tasks import DetectorSpec

State = Literal["cold", "preparing", "ready", "failed"]

MAX_MAKING: Final = 64
MAX_ERRORS: Final = 1000  # remembered, so that somebody who asks later learns why


class PreparedDetectors:
    """A cache with single-flight making.

    Args:
        make: from a spec to a detector.
        max_bytes: of all detectors together; one that is larger is used and forgotten.
        wait_s: how long a caller waits for one that isn't there yet.
    """

    def __init__(self, make: Callable[[DetectorSpec], Awaitable[Prepared]], *, max_bytes: int, wait_s: float) -> None:
        self._make = make
        self._max_bytes = max_bytes
        self._wait_s = wait_s
        self._kept: OrderedDict[str, tuple[Prepared, int]] = OrderedDict()
        self._making: dict[str, asyncio.Task[Prepared]] = {}
        self._errors: OrderedDict[str, str] = OrderedDict()
        self.bytes = 0

    async def get(self, spec: DetectorSpec) -> Prepared:
        """The detector, made now if need be.

        Raises:
            BusyError: too many are being made.
            PreparingError: it takes longer than a caller waits; it goes on being made.
            VlmOodError: it can't be made.
        """
        digest = spec.digest
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest][0]
        if digest not in self._making:
            if len(self._making) >= MAX_MAKING:
                raise BusyError(f"{MAX_MAKING} detectors are being prepared: try again in a moment", 5.0)
            self._making[digest] = asyncio.create_task(self._made(spec, digest))
            self._making[digest].add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.shield(self._making[digest])
        except TimeoutError:
            raise PreparingError(
                f"{spec.method} over {len(spec.task.names or ()):,} classes is still being prepared: ask again", 5.0
            ) from None

    def state(self, spec: DetectorSpec) -> tuple[State, str | None]:
        """How far it is, and why it failed if it did."""
        digest = spec.digest
        if digest in self._kept:
            return "ready", None
        if digest in self._making:
            return "preparing", None
        return ("failed", self._errors[digest]) if digest in self._errors else ("cold", None)

    async def close(self) -> None:
        """Stop what is being made."""
        for task in list(self._making.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def _made(self, spec: DetectorSpec, digest: str) -> Prepared:
        try:
            prepared = await self._make(spec)
        except VlmOodError as error:
            self._errors[digest] = str(error)
            while len(self._errors) > MAX_ERRORS:
                self._errors.popitem(last=False)
            raise
        finally:
            self._making.pop(digest, None)
        self._errors.pop(digest, None)
        self._keep(digest, prepared)
        return prepared

    def _keep(self, digest: str, prepared: Prepared) -> None:
        size = bytes_of([prepared.fitted.task, prepared.fitted.state])
        self._kept[digest] = prepared, size
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self.bytes -= freed


def _retrieve(task: "asyncio.Task[Prepared]") -> None:
    """Nobody may be left to look at the error."""
    if not task.cancelled():
        task.exception()


def bytes_of(value: Any, seen: set[int] | None = None) -> int:
    """The tensors and strings below a value, each once."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        return storage.nbytes() if _is_new(storage.data_ptr(), seen) else 0
    if isinstance(value, str):
        return len(value) + 50
    if not _is_new(id(value), seen):
        return 0
    if is_dataclass(value):
        return sum(bytes_of(getattr(value, each.name), seen) for each in fields(value))
    if isinstance(value, Mapping):
        return sum(bytes_of(each, seen) for each in value.values())
    if isinstance(value, list | tuple):
        return sum(bytes_of(each, seen) for each in value)
    return 8


def _is_new(identity: int, seen: set[int]) -> bool:
    new = identity not in seen
    seen.add(identity)
    return new
