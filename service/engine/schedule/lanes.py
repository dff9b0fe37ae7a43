"""The items of one tenant that wait: its requests take turns."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from itertools import chain, zip_longest

from service.engine.schedule.items import AnyItem, BatchKey


class Lanes:
    """A lane for each request.

    Attributes:
        served_s: seconds of work that were done for the tenant, on the queue's own clock.
    """

    def __init__(self) -> None:
        self.served_s = 0.0
        self._lanes: OrderedDict[object, deque[AnyItem]] = OrderedDict()

    def put(self, item: AnyItem) -> None:
        """Append an item to the lane of its request."""
        self._lanes.setdefault(item.lane, deque()).append(item)

    def put_first(self, item: AnyItem) -> None:
        """Put an item in front of all others."""
        self._lanes.setdefault(item.lane, deque()).appendleft(item)
        self._lanes.move_to_end(item.lane, last=False)

    def first(self) -> AnyItem:
        """The item whose turn it is."""
        return next(iter(self._lanes.values()))[0]

    def in_turn(self, key: BatchKey, seconds: Callable[[AnyItem], float]) -> Iterator[tuple[float, AnyItem]]:
        """The items that may share a batch of this key, each with `served_s` at its beginning."""
        at_s = self.served_s
        for item in chain.from_iterable(zip_longest(*(lane for lane in self._lanes.values() if lane[0].key == key))):
            if item is not None and not item.alone:
                yield at_s, item
                at_s += seconds(item)

    def remove(self, chosen: Collection[AnyItem]) -> None:
        """Remove items; their requests are behind those that were not served."""
        for lane in {item.lane: None for item in chosen}:
            rest = deque(item for item in self._lanes.pop(lane) if item not in chosen)
            if rest:
                self._lanes[lane] = rest

    def drop_finished(self) -> None:
        """Remove items that have a result or whose caller has left."""
        for lane, items in list(self._lanes.items()):
            waiting = deque(item for item in items if not item.result.done())
            if waiting:
                self._lanes[lane] = waiting
            else:
                del self._lanes[lane]

    def __iter__(self) -> Iterator[AnyItem]:
        return chain.from_iterable(self._lanes.values())

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))
