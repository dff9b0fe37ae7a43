import asyncio

import pytest

from service.engine import DeadlineExceeded, Draining, NotReady, QueueFull
from service.engine.schedule.admission import Admission
from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import LatencyBook
from vlm_ood.encoders.outputs import PATCHES, POOLED
from vlm_ood.errors import InputError

KEY = BatchKey("fake", POOLED, 4)


def admission(*, items: int = 8, nbytes: int = 800, seconds_an_image: float = 0.0, workers: int = 1) -> Admission:
    latency = LatencyBook()
    latency.model("fake", POOLED).observe(4, 4 * seconds_an_image)
    return Admission(items, nbytes, latency, lambda: workers)


def test_images_are_counted_not_requests() -> None:
    limits = admission()
    limits.admit(KEY, [1] * 6, [1] * 6, 10)
    with pytest.raises(QueueFull, match="6 of 8"):
        limits.admit(KEY, [1] * 3, [1] * 3, 10)
    assert limits.items == 6


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
    assert (limits.items, limits.bytes) == (1, 20)
    limits.admit(BatchKey("fake", PATCHES, 4), [1], [1], 10)
    limits.release(other)
    assert (limits.items, limits.bytes) == (1, 1)
    assert len(limits._pending) == 1, "a batch key without waiting items leaves no entry"


def test_what_could_never_fit_is_not_told_to_come_back() -> None:
    with pytest.raises(InputError, match="fewer"):
        admission().admit(KEY, [1] * 9, [1] * 9, 10)


def test_a_hopeless_wait_is_refused_at_once_with_the_time_to_come_back() -> None:
    limits = admission(seconds_an_image=1.0)
    limits.admit(KEY, [1] * 4, [1] * 4, 10)
    assert limits.predicted_wait_s() == pytest.approx(4.0)
    with pytest.raises(QueueFull) as refusal:
        limits.admit(KEY, [1], [1], 3.0)
    assert refusal.value.retry_after_s == pytest.approx(2.0)
    limits.admit(KEY, [1], [1], 5.1)


def test_two_workers_halve_the_wait() -> None:
    limits = admission(seconds_an_image=1.0, workers=2)
    limits.admit(KEY, [1] * 4, [1] * 4, 10)
    assert limits.predicted_wait_s() == pytest.approx(2.0)


def test_an_empty_engine_takes_whatever_it_predicts() -> None:
    admission(seconds_an_image=100.0).admit(KEY, [1], [1], 1.0)


def test_a_deadline_that_passed_without_a_worker_is_no_fault_of_the_request() -> None:
    assert isinstance(admission(workers=1).too_late("late"), DeadlineExceeded)
    late = admission(workers=0).too_late("late")
    assert isinstance(late, NotReady)
    assert late.retry_after_s is not None


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
