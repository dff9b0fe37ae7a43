"""A queue in which requests take turns: each adds one item to a batch, then the next request does (round robin)."""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, zip_longest

from service.engine.errors import DeadlineExceeded
from service.engine.schedule.items import AnyItem, ItemBatch, Reason
from vlm_ood.errors import VlmOodError

FreeIn = Callable[[], float]

LEAD_S = 0.005  # what it takes to hand a batch to a worker


class FairQueue:
    """A batch is formed at the moment a worker asks for it, from the items that wait.

    Admission bounds the queue, before an image is decoded; nothing is refused here.

    Args:
        max_wait_s: how long a batch that isn't full is held back for more.
        max_head_bytes: of the heads of one batch together.
    """

    def __init__(self, max_wait_s: float = 0.0, max_head_bytes: float = math.inf) -> None:
        self._max_wait_s, self._max_head_bytes = max_wait_s, max_head_bytes
        self._lanes: OrderedDict[object, deque[AnyItem]] = OrderedDict()
        self._takers: list[FreeIn] = []
        self._arrived = asyncio.Event()

    def put(self, item: AnyItem) -> None:
        """Append an item to the lane of its request."""
        item.enqueued = time.monotonic()
        self._lanes.setdefault(item.lane, deque()).append(item)
        self._arrived.set()

    def put_back(self, items: Iterable[AnyItem]) -> None:
        """Put items in front of all others, in this order: they have waited already."""
        for item in reversed(list(items)):
            self._lanes.setdefault(item.lane, deque()).appendleft(item)
            self._lanes.move_to_end(item.lane, last=False)
        self._arrived.set()

    async def take(self, free_in_s: FreeIn = lambda: 0.0) -> ItemBatch:
        """The next batch; waits for one.

        A worker that has a batch may ask for the next one ahead. It gets a full one at once; one that isn't full grows
        until the worker is about to be free, since an early batch would leave out the items that arrive meanwhile.

        Args:
            free_in_s: seconds until the worker can begin; of several that wait, the one that can begin first is served.
        """
        self._takers.append(free_in_s)
        try:
            while True:
                self._arrived.clear()
                chosen = self._choose() if self._is_first(free_in_s) else []
                hold_s = self._hold_s(chosen, free_in_s())
                if hold_s <= 0:
                    return self._remove(chosen)
                with suppress(TimeoutError):
                    async with asyncio.timeout(hold_s if chosen else None):
                        await self._arrived.wait()
        finally:
            self._takers.remove(free_in_s)
            self._arrived.set()  # workers that waited behind this one look again

    def look_again(self) -> None:
        """Tell the queue that a worker is free sooner than it predicted."""
        self._arrived.set()

    def oldest_wait_s(self) -> float:
        """Seconds since the oldest item was put here; 0 when there is none."""
        now = time.monotonic()
        return max((now - lane[0].enqueued for lane in list(self._lanes.values())), default=0.0)

    def fail_all(self, error: VlmOodError) -> None:
        """Fail every item and empty the queue."""
        for item in self._items():
            item.fail(error)
        self._lanes.clear()

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def _is_first(self, taker: FreeIn) -> bool:
        return min(self._takers, key=lambda free_in_s: free_in_s()) is taker

    def _choose(self) -> list[AnyItem]:
        """The batch as it would be now: the first lane's key, one item of each lane in turn."""
        self._drop_finished()
        first = next(iter(self._lanes.values()), None)
        if first is None:
            return []
        if first[0].alone:
            return [first[0]]
        return self._fill([lane for lane in self._lanes.values() if lane[0].key == first[0].key])

    def _fill(self, lanes: list[deque[AnyItem]]) -> list[AnyItem]:
        """One item of each lane in turn, until the next one is too much."""
        chosen: list[AnyItem] = []
        cost, heads = 0, dict[str, int]()
        for item in chain.from_iterable(zip_longest(*lanes)):
            if item is None or item.alone:
                continue
            cost, heads = cost + item.cost, heads | item.head_bytes
            if chosen and (cost > item.key.max_cost or sum(heads.values()) > self._max_head_bytes):
                break
            chosen.append(item)
        return chosen

    def _hold_s(self, chosen: list[AnyItem], free_in_s: float) -> float:
        if not chosen:
            return math.inf
        if chosen[0].alone or _is_full(chosen):
            return 0.0
        oldest = min(item.enqueued for item in chosen)
        return max(oldest + self._max_wait_s - time.monotonic(), free_in_s - LEAD_S)

    def _remove(self, chosen: list[AnyItem]) -> ItemBatch:
        taken = set(chosen)
        for lane in {item.lane: None for item in chosen}:
            rest = deque(item for item in self._lanes.pop(lane) if item not in taken)
            if rest:
                self._lanes[lane] = rest  # behind those that were not served
        return ItemBatch(chosen[0].key, tuple(chosen), self._reason(chosen))

    def _reason(self, chosen: list[AnyItem]) -> Reason:
        if _is_full(chosen):
            return "full"
        return "wait_elapsed" if self._max_wait_s and not chosen[0].alone else "worker_free"

    def _drop_finished(self) -> None:
        """Fail items whose deadline has passed, and remove those that have a result or whose caller has left."""
        now = asyncio.get_running_loop().time()
        for item in self._items():
            if item.deadline <= now:
                item.fail(DeadlineExceeded("the deadline passed in the queue: allow more time or send less at once"))
        for lane, items in list(self._lanes.items()):
            waiting = deque(item for item in items if not item.result.done())
            if waiting:
                self._lanes[lane] = waiting
            else:
                del self._lanes[lane]

    def _items(self) -> Iterator[AnyItem]:
        return chain.from_iterable(self._lanes.values())


def _is_full(chosen: list[AnyItem]) -> bool:
    """Whether another item like the first is too much; items of one key mostly cost the same."""
    return sum(item.cost for item in chosen) + chosen[0].cost > chosen[0].key.max_cost
