"""The heads that a worker has on its device."""

from collections.abc import Callable, Sequence

import torch

from service.engine.records import Head, HeadAnswer
from service.engine.worker.protocol import ErrorReply, HeadRows, HeadWork
from vlm_ood.errors import EncoderError
from vlm_ood.types import ImageFeatures

Function = Callable[[ImageFeatures], HeadAnswer]


class InstalledHeads:
    """Functions by digest; the engine decides which to keep. A head that fails is the error of its own rows alone."""

    def __init__(self) -> None:
        self._functions: dict[str, Function | ErrorReply] = {}

    def update(self, work: HeadWork, device: torch.device) -> None:
        """Drop and install heads; for one that can't be installed, keep the error that its rows will have."""
        for digest in work.drop:
            self._functions.pop(digest, None)
        for head in work.install:
            self._functions[head.digest] = _installed(head, device)

    def run(self, work: Sequence[HeadRows], features: ImageFeatures) -> tuple[HeadAnswer | ErrorReply, ...]:
        """The answer of each head about its rows, or its error."""
        return tuple(self._run(each, features) for each in work)

    def missing(self, work: Sequence[HeadRows]) -> tuple[str, ...]:
        """Digests of these heads that are not installed."""
        return tuple(each.digest for each in work if isinstance(self._function(each.digest), ErrorReply))

    def _run(self, work: HeadRows, features: ImageFeatures) -> HeadAnswer | ErrorReply:
        function = self._function(work.digest)
        if isinstance(function, ErrorReply):
            return function
        own = features if len(work.rows) == len(features) else features[work.rows]
        try:
            with torch.inference_mode():
                return function(own)
        except Exception as error:
            return ErrorReply.of(error)

    def _function(self, digest: str) -> Function | ErrorReply:
        missing = ErrorReply(EncoderError(f"head {digest[:12]} is not in this worker: ask again"))
        return self._functions.get(digest, missing)


def _installed(head: Head, device: torch.device) -> Function | ErrorReply:
    try:
        with torch.inference_mode():
            return head.on(device)
    except Exception as error:
        return ErrorReply.of(error)
