import asyncio

import pytest

from service.engine import DeadlineExceeded, Draining, NotReady, QueueFull
from service.engine.schedule.admission import Admission
from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import LatencyBook
from vlm_ood.errors import InputError

KEY = BatchKey("fake", "images", 4)


def admission(*, items: int = 8, nbytes: int = 800, seconds_an_image: float = 0.0, workers: int = 1) -> Admission:
    latency = LatencyBook()
    latency["fake", "images"].observe(4, 4 * seconds_an_image)
    return Admission(items, nbytes, latency, lambda: workers)


def test_images_are_counted_not_requests() -> None:
    door = admission()
    door.admit(KEY, [1] * 6, [1] * 6, 10)
    with pytest.raises(QueueFull, match="6 of 8"):
        door.admit(KEY, [1] * 3, [1] * 3, 10)
    assert door.items == 6


def test_bytes_are_counted() -> None:
    door = admission()
    door.admit(KEY, [1], [700], 10)
    with pytest.raises(QueueFull, match="700 of 800"):
        door.admit(KEY, [1], [101], 10)
    door.admit(KEY, [1], [100], 10)


def test_a_place_is_given_back_once() -> None:
    door = admission()
    place, other = door.admit(KEY, [1, 1], [10, 20], 10)
    door.release(place)
    door.release(place)
    assert (door.items, door.bytes) == (1, 20)
    door.release(other)
    assert (door.items, door.bytes) == (0, 0)


def test_what_could_never_fit_is_not_told_to_come_back() -> None:
    with pytest.raises(InputError, match="fewer"):
        admission().admit(KEY, [1] * 9, [1] * 9, 10)


def test_a_hopeless_wait_is_refused_at_the_door_with_the_time_to_come_back() -> None:
    door = admission(seconds_an_image=1.0)
    door.admit(KEY, [1] * 4, [1] * 4, 10)
    assert door.predicted_wait_s() == pytest.approx(4.0)
    with pytest.raises(QueueFull) as refusal:
        door.admit(KEY, [1], [1], 3.0)
    assert refusal.value.retry_after_s == pytest.approx(2.0)
    door.admit(KEY, [1], [1], 5.1)


def test_two_workers_halve_the_wait() -> None:
    door = admission(seconds_an_image=1.0, workers=2)
    door.admit(KEY, [1] * 4, [1] * 4, 10)
    assert door.predicted_wait_s() == pytest.approx(2.0)


def test_an_empty_engine_takes_whatever_it_predicts() -> None:
    admission(seconds_an_image=100.0).admit(KEY, [1], [1], 1.0)


def test_a_deadline_that_passed_without_a_worker_is_no_fault_of_the_request() -> None:
    assert isinstance(admission(workers=1).too_late("late"), DeadlineExceeded)
    late = admission(workers=0).too_late("late")
    assert isinstance(late, NotReady)
    assert late.retry_after_s is not None


async def test_draining_refuses_the_new_and_waits_for_the_old() -> None:
    door = admission()
    (place,) = door.admit(KEY, [1], [1], 10)
    draining = asyncio.create_task(door.drain(30))
    await asyncio.sleep(0)
    with pytest.raises(Draining) as refusal:
        door.admit(KEY, [1], [1], 10)
    assert refusal.value.retry_after_s == 30
    assert not draining.done()
    door.release(place)
    await draining


async def test_draining_does_not_wait_for_ever() -> None:
    door = admission()
    door.admit(KEY, [1], [1], 10)
    with pytest.raises(TimeoutError):
        await door.drain(0.0)


def test_a_deadline_that_has_passed_is_no_full_queue() -> None:
    busy = admission()
    busy.admit(KEY, [1], [1], 10)
    with pytest.raises(DeadlineExceeded, match="before the work began"):
        busy.admit(KEY, [1], [1], -0.01)
