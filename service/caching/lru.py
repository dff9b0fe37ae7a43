"""A cache bounded in bytes, from which the least recently used entry goes first."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Safe to use from several threads.

    Args:
        max_bytes: of all entries together; an entry larger than that is not kept and displaces no other.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """The value, which becomes the most recently used one; None when it is not kept."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: K, value: V, nbytes: int) -> None:
        """Keep the value in place of an older one of the key; the least recently used entries make room."""
        with self._lock:
            if key in self._entries:
                self._drop(key)
            if nbytes > self.max_bytes:
                return
            self._entries[key] = value, nbytes
            self.nbytes += nbytes
            while self.nbytes > self.max_bytes:
                self._drop(next(iter(self._entries)))

    def __contains__(self, key: K) -> bool:
        """Whether the key is kept; it does not count as a use."""
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: K) -> None:
        _, nbytes = self._entries.pop(key)
        self.nbytes -= nbytes
