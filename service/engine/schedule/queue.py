"""A queue in which tenants take turns by the time of the device that they use, and requests of a tenant by items.

Tenants are served as in start-time fair queueing (Goyal, Vin and Cheng 1996): next is the tenant that was served the
least. One that asks for nothing saves nothing up, and one that sends a single image is served with the next batch.
"""

import asyncio
import heapq
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from operator import itemgetter

from service.engine.errors import DeadlineExceeded
from service.engine.schedule.items import AnyItem, BatchKey, ItemBatch, Reason
from service.engine.schedule.lanes import Lanes
from vlm_ood.errors import VlmOodError

FreeIn = Callable[[], float]

LEAD_S = 0.005  # what it takes to hand a batch to a worker


def fraction(key: BatchKey, cost: int) -> float:
    """The part of a batch."""
    return cost / key.max_cost


class FairQueue:
    """A batch is formed at the moment a worker asks for it, from the items that wait.

    Admission bounds the queue, before an image is decoded; nothing is refused here.

    Args:
        max_wait_s: how long a batch that isn't full is held back for more.
        max_head_bytes: of the heads of one batch together.
        seconds: of the device for so much of this work, by which tenants take turns.
    """

    def __init__(
        self,
        max_wait_s: float = 0.0,
        max_head_bytes: float = math.inf,
        seconds: Callable[[BatchKey, int], float] = fraction,
    ) -> None:
        self._max_wait_s, self._max_head_bytes = max_wait_s, max_head_bytes
        self._seconds = seconds
        self._tenants: dict[str, Lanes] = {}
        self._served_s = 0.0  # with which a tenant begins that had nothing here
        self._takers: list[FreeIn] = []
        self._arrived = asyncio.Event()

    def put(self, item: AnyItem) -> None:
        """Append an item to the lane of its request."""
        item.enqueued = time.monotonic()
        self._lanes_of(item.tenant).put(item)
        self._arrived.set()

    def put_back(self, items: Iterable[AnyItem]) -> None:
        """Put items in front of all others of their tenants, in this order: they have waited already."""
        for item in reversed(list(items)):
            self._lanes_of(item.tenant).put_first(item)
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
        return max((now - item.enqueued for item in list(self._items())), default=0.0)

    def fail_all(self, error: VlmOodError) -> None:
        """Fail every item and empty the queue."""
        for item in self._items():
            item.fail(error)
        self._tenants.clear()

    def fail_before(self, deadline: float, error: VlmOodError) -> None:
        """Fail the items that must be done by then, and remove them."""
        for item in self._items():
            if item.deadline <= deadline:
                item.fail(error)
        self._drop_finished()

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def _lanes_of(self, tenant: str) -> Lanes:
        lanes = self._tenants.setdefault(tenant, Lanes())
        if not lanes:
            lanes.served_s = max(lanes.served_s, self._served_s)
        return lanes

    def _is_first(self, taker: FreeIn) -> bool:
        return min(self._takers, key=lambda free_in_s: free_in_s()) is taker

    def _choose(self) -> list[AnyItem]:
        """The batch as it would be now: of the key of the tenant that was served the least."""
        self._drop_finished()
        waiting = [lanes for lanes in self._tenants.values() if lanes]
        if not waiting:
            return []
        first = min(waiting, key=lambda lanes: lanes.served_s).first()
        return [first] if first.alone else self._fill(first.key)

    def _fill(self, key: BatchKey) -> list[AnyItem]:
        """Items of all tenants in turn, until the next one is too much."""
        chosen: list[AnyItem] = []
        cost, heads = 0, dict[str, int]()
        in_turn = (lanes.in_turn(key, self._seconds_of) for lanes in self._tenants.values())
        for _, item in heapq.merge(*in_turn, key=itemgetter(0)):
            cost, heads = cost + item.cost, heads | item.head_bytes
            if chosen and (cost > key.max_cost or sum(heads.values()) > self._max_head_bytes):
                break
            chosen.append(item)
        return chosen

    def _seconds_of(self, item: AnyItem) -> float:
        return self._seconds(item.key, item.cost)

    def _hold_s(self, chosen: list[AnyItem], free_in_s: float) -> float:
        if not chosen:
            return math.inf
        if chosen[0].alone or _is_full(chosen):
            return 0.0
        oldest = min(item.enqueued for item in chosen)
        return max(oldest + self._max_wait_s - time.monotonic(), free_in_s - LEAD_S)

    def _remove(self, chosen: list[AnyItem]) -> ItemBatch:
        """Take the items out, and count their seconds as served to their tenants."""
        of_tenants: defaultdict[str, set[AnyItem]] = defaultdict(set)
        for item in chosen:
            of_tenants[item.tenant].add(item)
        for tenant, own in of_tenants.items():
            self._tenants[tenant].remove(own)
            self._tenants[tenant].served_s += sum(map(self._seconds_of, own))
        self._served_s = max(self._served_s, min(self._tenants[tenant].served_s for tenant in of_tenants))
        self._tenants = {
            tenant: lanes for tenant, lanes in self._tenants.items() if lanes or lanes.served_s > self._served_s
        }
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
        for lanes in self._tenants.values():
            lanes.drop_finished()

    def _items(self) -> Iterator[AnyItem]:
        return chain.from_iterable(self._tenants.values())


def _is_full(chosen: list[AnyItem]) -> bool:
    """Whether another item like the first is too much; items of one key mostly cost the same."""
    return sum(item.cost for item in chosen) + chosen[0].cost > chosen[0].key.max_cost
