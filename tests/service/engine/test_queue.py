import asyncio
import time

import pytest

from service.engine import DeadlineExceeded, NotReady
from service.engine.schedule.items import AnyItem, BatchKey, ItemBatch
from service.engine.schedule.queue import LEAD_S, FairQueue
from tests.service.engine.stand_ins import item
from vlm_ood.encoders.outputs import PATCHES, POOLED

KEY = BatchKey("fake", POOLED, 4)
OTHER = BatchKey("other", POOLED, 4)


def fill(queue: FairQueue, *items: AnyItem) -> None:
    for one in items:
        queue.put(one)


async def test_a_batch_is_whatever_waits_when_it_is_asked_for() -> None:
    queue = FairQueue()
    waiting = [item("a", KEY) for _ in range(3)]
    fill(queue, *waiting)
    batch = await queue.take()
    assert batch.items == tuple(waiting)
    assert batch.reason == "worker_free"
    assert len(queue) == 0


async def test_a_batch_stops_at_its_cost_and_the_rest_stays() -> None:
    queue = FairQueue()
    waiting = [item("a", KEY) for _ in range(6)]
    fill(queue, *waiting)
    first, second = await queue.take(), await queue.take()
    assert (first.items, first.reason) == (tuple(waiting[:4]), "full")
    assert (second.items, second.reason) == (tuple(waiting[4:]), "worker_free")


async def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    queue = FairQueue()
    large, small = [item("large", KEY) for _ in range(9)], item("small", KEY)
    fill(queue, *large, small)
    assert (await queue.take()).items == (large[0], small, large[1], large[2])


async def test_encoders_take_turns() -> None:
    queue = FairQueue()
    fill(queue, *(item("a", KEY) for _ in range(8)), *(item("b", OTHER) for _ in range(8)))
    assert [(await queue.take()).key for _ in range(4)] == [KEY, OTHER, KEY, OTHER]


async def test_tenants_take_turns_however_many_requests_they_send() -> None:
    queue = FairQueue()
    heavy = [item(f"request {row}", KEY, tenant="heavy") for row in range(12)]
    light = [item("a", KEY, tenant="light"), item("a", KEY, tenant="light")]
    fill(queue, *heavy, *light)
    assert (await queue.take()).items == (heavy[0], light[0], heavy[1], light[1])


async def test_tenants_take_turns_by_the_time_of_the_device() -> None:
    """Images of one tenant cost three times as much: it has as much time, not as many images."""
    queue = FairQueue(seconds=lambda key, cost: 0.1 * cost)
    key = BatchKey("fake", POOLED, 3)
    fill(queue, *(item("a", key, cost=3, tenant="large") for _ in range(8)))
    fill(queue, *(item("b", key, tenant="small") for _ in range(24)))
    served = [one.tenant for _ in range(8) for one in (await queue.take()).items]
    assert (served.count("large"), served.count("small")) == (4, 12)


async def test_encoders_of_different_tenants_share_the_time_of_the_device() -> None:
    queue = FairQueue(seconds=lambda key, cost: (3.0 if key is OTHER else 1.0) * cost)
    fill(queue, *(item("a", OTHER, tenant="slow") for _ in range(40)))
    fill(queue, *(item("b", KEY, tenant="fast") for _ in range(40)))
    served = [one.tenant for _ in range(8) for one in (await queue.take()).items]
    assert (served.count("slow"), served.count("fast")) == (8, 24)


async def test_a_tenant_that_asked_for_nothing_has_saved_nothing_up() -> None:
    queue = FairQueue()
    fill(queue, *(item("a", KEY, tenant="busy") for _ in range(40)))
    for _ in range(5):
        await queue.take()
    fill(queue, *(item("b", KEY, tenant="late") for _ in range(20)))
    served = [one.tenant for _ in range(4) for one in (await queue.take()).items]
    assert abs(served.count("busy") - served.count("late")) <= 1


async def test_a_tenant_that_comes_and_goes_has_no_more_than_its_turn() -> None:
    queue = FairQueue()
    fill(queue, *(item("a", KEY, tenant="steady") for _ in range(40)))
    served: list[str] = []
    for _ in range(6):
        fill(queue, *(item(object(), KEY, tenant="again") for _ in range(4 - served[-4:].count("steady"))))
        served += [one.tenant for one in (await queue.take()).items]
    assert served.count("steady") >= 12
    assert len(queue._tenants) <= 2


async def test_what_can_not_be_done_in_time_is_failed_at_once() -> None:
    queue = FairQueue()
    now = asyncio.get_running_loop().time()
    soon, later = item("a", KEY, deadline=now + 5), item("b", KEY, deadline=now + 60)
    fill(queue, soon, later)
    queue.fail_before(now + 10, NotReady("no worker", 10.0))
    assert isinstance(soon.result.exception(), NotReady)
    assert (await queue.take()).items == (later,)


async def test_only_one_key_shares_a_batch() -> None:
    queue = FairQueue()
    fill(queue, item("a", KEY), item("b", BatchKey("fake", PATCHES, 4)), item("c", KEY))
    assert [len((await queue.take()).items) for _ in range(2)] == [2, 1]


async def test_a_cancelled_request_is_skipped() -> None:
    queue = FairQueue()
    gone, here = item("a", KEY), item("b", KEY)
    fill(queue, gone, here)
    gone.result.cancel()
    assert (await queue.take()).items == (here,)


async def test_a_passed_deadline_is_told_when_the_item_is_reached() -> None:
    queue = FairQueue()
    late, here = item("a", KEY, deadline=0.0), item("b", KEY)
    fill(queue, late, here)
    assert (await queue.take()).items == (here,)
    with pytest.raises(DeadlineExceeded, match="deadline"):
        await late.result


async def test_what_failed_together_comes_back_first_and_alone() -> None:
    queue = FairQueue()
    failed = [item("a", KEY), item("b", KEY)]
    newer = [item("c", KEY), item("d", KEY)]
    fill(queue, *newer)
    for one in failed:
        one.alone = True
    queue.put_back(failed)
    batches = [await queue.take() for _ in range(3)]
    assert [batch.items for batch in batches] == [(failed[0],), (failed[1],), tuple(newer)]


async def test_what_is_put_back_in_one_lane_keeps_its_order() -> None:
    queue = FairQueue()
    waiting = [item("a", KEY) for _ in range(4)]
    fill(queue, *waiting)
    taken = await queue.take()
    queue.put_back(taken.items)
    assert (await queue.take()).items == tuple(waiting)


async def test_taking_waits_for_the_first_item() -> None:
    queue = FairQueue()
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taking.done()
    one = item("a", KEY)
    queue.put(one)
    assert (await taking).items == (one,)


async def test_with_a_wait_a_batch_goes_as_soon_as_it_is_full() -> None:
    queue = FairQueue(max_wait_s=60)
    fill(queue, *(item("a", KEY) for _ in range(3)))
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taking.done()
    queue.put(item("b", KEY))
    batch = await asyncio.wait_for(taking, 5)
    assert (len(batch.items), batch.reason) == (4, "full")


async def test_with_a_wait_a_batch_goes_when_the_wait_is_over() -> None:
    queue = FairQueue(max_wait_s=0.01)
    queue.put(item("a", KEY))
    assert (await queue.take()).reason == "wait_elapsed"


async def test_who_can_begin_first_is_served_first() -> None:
    queue = FairQueue()
    later = asyncio.create_task(queue.take(lambda: 60.0))
    sooner = asyncio.create_task(queue.take(lambda: 30.0))
    free = asyncio.create_task(queue.take())
    done: set[asyncio.Task[ItemBatch]] = set()
    await asyncio.sleep(0)
    for next_one in (free, sooner, later):
        fill(queue, *(item("a", KEY) for _ in range(KEY.max_cost)))
        await asyncio.wait({free, sooner, later} - done, return_when=asyncio.FIRST_COMPLETED)
        done.add(next_one)
        assert {task for task in (free, sooner, later) if task.done()} == done


async def test_a_batch_ahead_grows_while_the_worker_is_busy() -> None:
    queue = FairQueue()
    ahead = asyncio.create_task(queue.take(lambda: 60.0))
    for _ in range(KEY.max_cost):
        await asyncio.sleep(0)
        assert not ahead.done()
        queue.put(item("a", KEY))
    assert (await asyncio.wait_for(ahead, 5)).reason == "full"


async def test_a_batch_ahead_goes_when_the_worker_is_about_to_be_free() -> None:
    queue = FairQueue()
    free_at = time.monotonic() + 0.02
    queue.put(item("a", KEY))
    assert len((await queue.take(lambda: free_at - time.monotonic())).items) == 1
    assert free_at - LEAD_S <= time.monotonic()


async def test_a_worker_that_is_done_sooner_does_not_wait_for_the_prediction() -> None:
    queue = FairQueue()
    free_in_s = 60.0
    ahead = asyncio.create_task(queue.take(lambda: free_in_s))
    queue.put(item("a", KEY))
    await asyncio.sleep(0)
    assert not ahead.done()
    free_in_s = 0.0
    queue.look_again()
    assert len((await asyncio.wait_for(ahead, 5)).items) == 1


async def test_two_workers_share_one_queue() -> None:
    queue = FairQueue()
    taking = [asyncio.create_task(queue.take()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.put(item("a", KEY))
    await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
    queue.put(item("a", KEY))
    assert [len((await task).items) for task in taking] == [1, 1]
