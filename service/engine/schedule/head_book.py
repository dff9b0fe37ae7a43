"""Which heads a worker has: the bookkeeping on the engine's side."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from service.engine.records import Head
from service.engine.worker.protocol import HeadRows, HeadWork


class HeadBook:
    """Heads bounded in bytes; the least recently used ones make room.

    It is changed when a batch is sent, and the worker does the same in the same order, so that both always agree.

    Args:
        max_bytes: of all heads together. The queue forms no batch whose heads are more than that.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._to_drop: set[str] = set()

    def send(self, heads: Sequence[Head | None]) -> HeadWork:
        """What the worker has to do for a batch; call it once for each, in the order in which they go.

        Args:
            heads: of each image of the batch; None where there is none.
        """
        used = {head.digest: head for head in heads if head is not None}
        new = tuple(head for digest, head in used.items() if digest not in self._kept)
        for digest, head in used.items():
            self._kept[digest] = head.nbytes
            self._kept.move_to_end(digest)
        drop = (*sorted(self._to_drop - set(self._kept)), *self._make_room(set(used)))
        self._to_drop.clear()
        rows = {
            digest: tuple(row for row, head in enumerate(heads) if head and head.digest == digest) for digest in used
        }
        return HeadWork(drop, new, tuple(HeadRows(digest, own) for digest, own in rows.items()))

    def forget(self, digests: Iterable[str]) -> None:
        """Heads that the worker could not install: they are sent again when they are asked for again."""
        for digest in digests:
            if self._kept.pop(digest, None) is not None:
                self._to_drop.add(digest)

    def _make_room(self, used: set[str]) -> list[str]:
        dropped = []
        for digest in [digest for digest in self._kept if digest not in used]:
            if sum(self._kept.values()) <= self._max_bytes:
                break
            del self._kept[digest]
            dropped.append(digest)
        return dropped
