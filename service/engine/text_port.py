"""The engine as an encoder, for library code that runs in a thread: text banks, mining, the background."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from service.engine.base import Engine
from service.engine.records import EncoderInfo
from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.errors import VlmOodError

T = TypeVar("T")

PIECE: Final = 1024  # prompts in one call of the engine, which cuts them into batches by the time they take


class EngineText(TextEncoder):
    """Encodes prompts through the engine's queue and prompt cache; vectors are fp32 on the CPU.

    Make it on the event loop of the engine and call it from another thread: `encode_text` blocks until the loop has
    answered, and would wait for itself on the loop's own thread.

    Args:
        engine: that encodes.
        info: of the encoder whose text tower this is.
        tenant: for whom it encodes.
        deadline_s: seconds from now for everything that is encoded; by default each call of the engine has the
            engine's own deadline.
    """

    def __init__(self, engine: Engine, info: EncoderInfo, tenant: str = "", deadline_s: float | None = None) -> None:
        self.name, self.digest, self.dim, self.device = info.name, info.digest, info.dim, torch.device("cpu")
        self._engine, self._tenant = engine, tenant
        self._loop = asyncio.get_running_loop()
        self._deadline = None if deadline_s is None else self._loop.time() + deadline_s
        self._stopped = False
        self._asked: Future[Any] | None = None  # of the piece that is being encoded

    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        """fp32 vectors of the prompts, in order, on the CPU.

        Args:
            prompts: whole sentences.
            normalise: whether to bring each vector to length 1.
            batch_size: not read; the engine chooses batches that let the images of others pass between them.
            progress: called with the number of prompts done since the last call.

        Raises:
            EngineError: the engine can't answer now, or the deadline passed; what was encoded is in its cache.
            CancelledError: `stop` was called.
        """
        pieces = [torch.empty(0, self.dim)]
        for start in range(0, len(prompts), PIECE):
            piece = list(prompts[start : start + PIECE])
            deadline_s = None if self._deadline is None else self._deadline - self._loop.time()
            asked = self._engine.encode_text(
                self.name, piece, tenant=self._tenant, normalise=normalise, deadline_s=deadline_s
            )
            pieces.append(self._result(asyncio.run_coroutine_threadsafe(asked, self._loop)))
            if progress is not None:
                progress(len(piece))
        return torch.cat(pieces)

    def encode_files(self, files: Sequence[bytes]) -> Float[Tensor, "n d"]:
        """fp32 vectors of a few image files, in order, on the CPU.

        Raises:
            ImageError: a file can't be used.
            EngineError, CancelledError: as `encode_text`.
        """
        deadline_s = None if self._deadline is None else self._deadline - self._loop.time()
        asked = self._engine.encode_images(self.name, files, tenant=self._tenant, deadline_s=deadline_s)
        vectors = []
        for encoded in self._result(asyncio.run_coroutine_threadsafe(asked, self._loop)):
            if isinstance(encoded, VlmOodError):
                raise encoded
            vectors.append(encoded.features.pooled)
        return torch.cat(vectors)

    def stop(self) -> None:
        """Cancel what is being encoded; whatever is asked for from now on raises CancelledError in its thread."""
        self._stopped = True
        if self._asked is not None:
            self._asked.cancel()

    def check(self, done: int = 0) -> None:
        """For work that goes on without encoding, as its `progress`.

        Raises:
            CancelledError: `stop` was called.
        """
        if self._stopped:
            raise CancelledError

    def _result(self, asked: "Future[T]") -> T:
        self._asked = asked
        if self._stopped:  # perhaps before it could be seen in `stop`
            asked.cancel()
        return asked.result()
