"""The cache of fitted detectors in memory."""

from collections.abc import Callable, Coroutine
from typing import Any

from service.banks.made import stored_parts
from service.caching.prepared import PreparedCache
from service.caching.sizes import bytes_of
from service.detectors.maker import Prepared
from vlm_ood.digests import digest_of
from vlm_ood.tasks import DetectorSpec

PreparedDetectors = PreparedCache[DetectorSpec, Prepared]


def prepared_detectors(
    make: Callable[[DetectorSpec], Coroutine[Any, Any, Prepared]], *, max_bytes: int, wait_s: float
) -> PreparedDetectors:
    """A cache of fitted detectors by the content of their specs, and by the banks that they are made from.

    Tenants share only detectors that are made from no bank, because an error may name a tenant's bank.

    Args:
        make: builds the detector of a spec.
        max_bytes: of all tasks and states in the cache.
        wait_s: how long a caller waits for a detector that is being built.
    """
    return PreparedCache(
        make,
        "detector",
        digest=lambda spec: digest_of(spec.digest, sorted({part.source for part in stored_parts(spec.task)})),
        max_bytes=max_bytes,
        wait_s=wait_s,
        nbytes=lambda prepared: bytes_of([prepared.fitted.task, prepared.fitted.state]),
    )
