import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine import DeadlineExceeded, Draining, EngineError, NotReady, QueueFull
from service.engine.schedule.admission import STALE_S, Admission
from service.engine.schedule.holdings import Place
from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import LatencyBook
from vlm_ood.encoders.outputs import PATCHES, POOLED
from vlm_ood.errors import InputError

KEY = BatchKey("fake", POOLED, 4)


@dataclass
class Few:
    """So many workers; without one, the next is predicted."""

    workers: int = 1
    next_in_s: float = 5.0

    def ready(self) -> int:
        return self.workers

    def back_in_s(self) -> float:
        return 0.0 if self.workers else self.next_in_s


def admission(
    *,
    items: int = 8,
    nbytes: int = 800,
    seconds_an_image: float = 0.0,
    workers: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> Admission:
    latency = LatencyBook(clock)
    latency.model("fake", POOLED).observe(4, 4 * seconds_an_image)
    return Admission(items, nbytes, latency, Few(workers))


def held(limits: Admission, tenant: str | None = None) -> tuple[int, int]:
    """Items and bytes of one tenant or of all."""
    found = limits.holdings.all if tenant is None else limits.holdings.of(tenant)
    return found.items, found.bytes


def test_images_are_counted_not_requests() -> None:
    limits = admission()
    limits.admit(KEY, [1] * 6, [1] * 6, 10)
    with pytest.raises(QueueFull, match="6 of 8"):
        limits.admit(KEY, [1] * 3, [1] * 3, 10)
    assert held(limits) == (6, 6)


def test_bytes_are_counted() -> None:
    limits = admission()
    limits.admit(KEY, [1], [700], 10)
    with pytest.raises(QueueFull, match="700 of 800"):
        limits.admit(KEY, [1], [101], 10)
    limits.admit(KEY, [1], [100], 10)


def test_a_place_is_given_back_once() -> None:
    limits = admission()
    place, other = limits.admit(KEY, [1, 1], [10, 20], 10)
    limits.release(place)
    limits.release(place)
    assert held(limits) == (1, 20)
    limits.admit(BatchKey("fake", PATCHES, 4), [1], [1], 10)
    limits.release(other)
    assert held(limits) == (1, 1)
    assert len(limits.holdings.all.costs) == 1, "a batch key without waiting items leaves no entry"


def test_what_could_never_fit_is_not_told_to_come_back() -> None:
    with pytest.raises(InputError, match="fewer"):
        admission().admit(KEY, [1] * 9, [1] * 9, 10)


def test_a_hopeless_wait_is_refused_at_once_with_the_time_to_come_back() -> None:
    limits = admission(seconds_an_image=1.0)
    limits.admit(KEY, [1] * 4, [1] * 4, 10)
    assert limits.forecast.all_s() == pytest.approx(4.0)
    with pytest.raises(QueueFull) as refusal:
        limits.admit(KEY, [1], [1], 3.0)
    assert refusal.value.retry_after_s == pytest.approx(2.0)
    limits.admit(KEY, [1], [1], 5.1)


def test_two_workers_halve_the_wait() -> None:
    limits = admission(seconds_an_image=1.0, workers=2)
    limits.admit(KEY, [1] * 4, [1] * 4, 10)
    assert limits.forecast.all_s() == pytest.approx(2.0)


def test_an_empty_engine_takes_whatever_it_predicts() -> None:
    admission(seconds_an_image=100.0).admit(KEY, [1], [1], 1.0)


def test_a_deadline_that_passed_without_a_worker_is_no_fault_of_the_request() -> None:
    assert isinstance(admission(workers=1).too_late("late"), DeadlineExceeded)
    late = admission(workers=0).too_late("late")
    assert isinstance(late, NotReady)
    assert late.retry_after_s == 5.0


def test_without_a_worker_only_what_can_wait_for_the_next_one_is_admitted() -> None:
    limits = admission(workers=0)
    with pytest.raises(NotReady, match="about 5 s") as refusal:
        limits.admit(KEY, [1], [1], 4.9)
    assert refusal.value.retry_after_s == 5.0
    limits.admit(KEY, [1], [1], 5.1)
    with pytest.raises(NotReady):
        limits.admit(KEY, [1], [1], 0.0)


def test_a_tenant_that_fills_the_queue_leaves_room_to_others() -> None:
    limits = admission()
    limits.admit(KEY, [1] * 8, [100] * 8, 10, "greedy")
    with pytest.raises(QueueFull, match="8 of 8 images and 800 of 800 bytes"):
        limits.admit(KEY, [1], [0], 10, "greedy")
    for tenant, share in (("b", 4), ("c", 2), ("d", 1)):
        limits.admit(KEY, [1] * share, [1] * share, 10, tenant)
        with pytest.raises(QueueFull, match=f"{share} of "):
            limits.admit(KEY, [1], [1], 10, tenant)
    with pytest.raises(QueueFull, match="8 of 5 images"):
        limits.admit(KEY, [1], [1], 10, "greedy")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8), st.booleans()), max_size=60))
def test_all_together_hold_less_than_twice_the_limit_and_newcomers_find_room(
    asked: list[tuple[int, int, bool]],
) -> None:
    limits, places = admission(items=64, nbytes=6400), list[Place]()
    for tenant, n, leaves in asked:
        if leaves and places:
            limits.release(places.pop(0))
        with suppress(QueueFull):
            places += limits.admit(KEY, [1] * n, [100] * n, 10, str(tenant))
        assert held(limits) == (len(places), 100 * len(places))
        assert len(places) < 2 * 64
    assert limits.holdings.share("new", 64, 6400) >= (1, 100)


def test_the_wait_of_a_tenant_is_what_passes_before_its_own_is_done() -> None:
    limits = admission(items=100, nbytes=1000, seconds_an_image=1.0)
    limits.admit(KEY, [1] * 40, [1] * 40, 100, "heavy")
    assert limits.forecast.wait_s("light", KEY, 2) == pytest.approx(4.0)
    assert limits.forecast.wait_s("heavy", KEY, 2) == pytest.approx(42.0)
    limits.admit(KEY, [1] * 2, [1] * 2, 5.0, "light")
    assert limits.forecast.wait_s("heavy") == pytest.approx(42.0)
    with pytest.raises(QueueFull) as refusal:
        limits.admit(KEY, [1], [1], 5.0, "heavy")
    assert refusal.value.retry_after_s == pytest.approx(43.0 - 5.0)


def test_an_old_prediction_refuses_only_until_one_request_has_renewed_it() -> None:
    now = 0.0
    limits = admission(items=100, nbytes=100, seconds_an_image=9.0, clock=lambda: now)
    limits.admit(KEY, [1], [1], 10)
    with pytest.raises(QueueFull):
        limits.admit(KEY, [1], [1], 10)
    now = STALE_S
    limits.admit(KEY, [1], [1], 10)
    with pytest.raises(QueueFull):
        limits.admit(KEY, [1], [1], 10)
    now = 2 * STALE_S
    limits.admit(KEY, [1], [1], 10)


def test_refusals_are_counted_by_reason() -> None:
    refused: list[tuple[str, int]] = []
    latency, workers = LatencyBook(), Few()
    latency.model("fake", POOLED).observe(4, 4.0)
    limits = Admission(4, 100, latency, workers, lambda reason, items: refused.append((reason, items)))
    limits.admit(KEY, [1], [1], 10)
    for costs, deadline_s in (([1] * 4, 10), ([1] * 2, 1.0), ([1], 0.0)):
        with pytest.raises(EngineError):
            limits.admit(KEY, costs, [1] * len(costs), deadline_s)
    workers.workers = 0
    with pytest.raises(NotReady):
        limits.admit(KEY, [1], [1], 1.0)
    assert refused == [("share", 4), ("wait", 2), ("late", 1), ("no_worker", 1)]


async def test_draining_refuses_the_new_and_waits_for_the_old() -> None:
    limits = admission()
    (place,) = limits.admit(KEY, [1], [1], 10)
    draining = asyncio.create_task(limits.drain(30))
    await asyncio.sleep(0)
    with pytest.raises(Draining) as refusal:
        limits.admit(KEY, [1], [1], 10)
    assert refusal.value.retry_after_s == 30
    assert not draining.done()
    limits.release(place)
    await draining


async def test_draining_does_not_wait_for_ever() -> None:
    limits = admission()
    limits.admit(KEY, [1], [1], 10)
    with pytest.raises(TimeoutError):
        await limits.drain(0.0)


def test_a_deadline_that_has_passed_is_no_full_queue() -> None:
    busy = admission()
    busy.admit(KEY, [1], [1], 10)
    with pytest.raises(DeadlineExceeded, match="before the work began"):
        busy.admit(KEY, [1], [1], -0.01)
