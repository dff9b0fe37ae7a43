"""When a worker is predicted to be back."""

from service.engine.schedule.outage import Outage
from service.start_time import AT_LEAST_S


def test_the_next_start_is_predicted_to_take_as_long_as_the_last() -> None:
    now = 0.0
    outage = Outage(lambda: now)
    outage.begin()
    now = 40.0
    outage.end()
    outage.begin(pause_s=2.0)
    assert outage.left_s() == 42.0
    now = 72.0
    assert outage.left_s() == 10.0


def test_a_start_of_unknown_length_is_asked_after_ever_less_often() -> None:
    now = 0.0
    outage = Outage(lambda: now)
    asked = []
    while now < 131.0:
        asked.append(outage.left_s())
        now += asked[-1]
    assert asked == [AT_LEAST_S, 1, 2, 4, 8, 16, 32, 64, 128]


def test_a_start_that_takes_longer_than_the_last_is_not_always_about_to_end() -> None:
    now = 0.0
    outage = Outage(lambda: now)
    now = 10.0
    outage.end()
    outage.begin()
    now = 50.0
    assert outage.left_s() == 30.0
