"""The cache of fitted detectors in memory."""

from collections.abc import Callable, Coroutine
from typing import Any

from service.caching.prepared import PreparedCache
from service.caching.sizes import bytes_of
from service.detectors.maker import Prepared
from vlm_ood.tasks import DetectorSpec

PreparedDetectors = PreparedCache[DetectorSpec, Prepared]


def prepared_detectors(
    make: Callable[[DetectorSpec], Coroutine[Any, Any, Prepared]], *, max_bytes: int, wait_s: float
) -> PreparedDetectors:
    """A cache of fitted detectors by the digest of their specs.

    Args:
        make: builds the detector of a spec.
        max_bytes: of all tasks and states in the cache.
        wait_s: how long a caller waits for a detector that is being built.
    """
    return PreparedCache(
        make,
        "detector",
        digest=lambda spec: spec.digest,
        max_bytes=max_bytes,
        wait_s=wait_s,
        nbytes=lambda prepared: bytes_of([prepared.fitted.task, prepared.fitted.state]),
    )
