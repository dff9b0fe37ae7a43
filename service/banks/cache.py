"""A cache of text banks in memory, in front of the cache on disk."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from torch import Tensor

from service.caching.lru import ByteLru
from vlm_ood.digests import digest_of
from vlm_ood.text import BankCache

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class MemoryBanks:
    """Banks in memory that threads may share; a bank that several threads of one tenant need is made once.

    Args:
        behind: the cache for banks that are not in memory, such as a `DiskCache`.
        max_bytes: of all banks in memory.
    """

    behind: BankCache
    max_bytes: int
    _kept: ByteLru[str, Tensors] = field(init=False)
    _locks: "_Locks" = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kept", ByteLru(self.max_bytes))
        object.__setattr__(self, "_locks", _Locks())

    def of(self, tenant: str) -> BankCache:
        """The cache of one tenant: the time of an answer would tell another one which class names it uses."""
        return _TenantBanks(self, tenant)

    def made(self, digest: str, make: Callable[[], Tensors], fits: Callable[[Tensors], bool]) -> Tensors:
        """The tensors of this digest; a caller waits while another one makes them.

        Args:
            digest: the key.
            make: called if neither cache has them.
            fits: whether tensors read from disk are valid.
        """
        with self._locks.hold(digest):
            kept = self._kept.get(digest)
            if kept is None:
                kept = self.behind.made(digest, make, fits)
                self._kept.put(digest, kept, sum(tensor.nbytes for tensor in kept.values()))
            return kept


@dataclass(frozen=True)
class _TenantBanks:
    """A `BankCache` whose entries are those of one tenant."""

    banks: MemoryBanks
    tenant: str

    def made(self, digest: str, make: Callable[[], Tensors], fits: Callable[[Tensors], bool]) -> Tensors:
        return self.banks.made(digest_of(self.tenant, digest), make, fits)


class _Locks:
    """One lock per key, which exists while a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[Lock, int]] = {}
        self._guard = Lock()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._all.get(key, (Lock(), 0))
            self._all[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._all.pop(key)
                if users > 1:
                    self._all[key] = lock, users - 1
