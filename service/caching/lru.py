"""A cache bounded in bytes: what was not asked for the longest goes first."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Safe to use from several threads.

    Args:
        max_bytes: of all entries together; an entry larger than that is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """The value, which becomes the most recently used one; None when it is not here."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: K, value: V, nbytes: int) -> None:
        """Keep the value, at the cost of older ones."""
        with self._lock:
            self.nbytes -= self._entries.pop(key, (None, 0))[1]
            if nbytes > self.max_bytes:
                return
            self._entries[key] = value, nbytes
            self.nbytes += nbytes
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._entries.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._entries)
