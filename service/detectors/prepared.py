"""The cache of fitted detectors in memory."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from service.banks.made import stored_parts
from service.caching.prepared import LINGER_S, PreparedCache
from service.caching.sizes import bytes_of
from service.detectors.maker import Prepared, Wanted
from service.detectors.rows import DetectorRow
from vlm_ood.digests import digest_of
from vlm_ood.tasks import DetectorSpec

PreparedDetectors = PreparedCache[Wanted, Prepared]


def prepared_detectors(
    make: Callable[[Wanted], Coroutine[Any, Any, Prepared]],
    *,
    max_bytes: int,
    max_making: int,
    wait_s: float,
    linger_s: float = LINGER_S,
    waiting: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> PreparedDetectors:
    """A cache of fitted detectors by tenant, the content of their specs, and the banks that they are made from.

    Tenants share none: the time of an answer would tell one which class names another uses.

    Args:
        make: builds a detector.
        max_bytes: of all tasks and states in the cache.
        max_making: how many detectors may be in the making at once for the requests of one tenant.
        wait_s: how long a caller waits for a detector that is being built.
        linger_s: how long the building goes on for callers that waited so long and may ask again.
        waiting: counts a caller of a tenant who waits for long.
    """
    return PreparedCache(
        make,
        "detector",
        digest=lambda wanted: digest_of(
            wanted.tenant, wanted.spec.digest, sorted({part.source for part in stored_parts(wanted.spec.task)})
        ),
        tenant=lambda wanted: wanted.tenant,
        max_bytes=max_bytes,
        max_making=max_making,
        wait_s=wait_s,
        linger_s=linger_s,
        waiting=waiting,
        nbytes=lambda prepared: bytes_of([prepared.fitted.task, prepared.fitted.state]),
    )


def wanted_of(row: DetectorRow) -> Wanted:
    """The stored detector, as its tenant asks for it."""
    return Wanted(row.tenant, DetectorSpec.from_plain(row.spec))
