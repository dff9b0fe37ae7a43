"""What a request is told of the end of the start."""

from pathlib import Path

import pytest

from service.start_time import AT_LEAST_S, MOST_S, UNKNOWN_S, StartTime


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_the_first_start_tells_a_fixed_time(tmp_path: Path) -> None:
    now = Time()
    start = StartTime(tmp_path / "last-start", now)
    now.s += 60
    assert start.left_s() == UNKNOWN_S


def test_a_later_start_counts_down_from_the_last_one(tmp_path: Path) -> None:
    now = Time()
    first = StartTime(tmp_path / "last-start", now)
    now.s += 30
    first.end()
    second = StartTime(tmp_path / "last-start", now)
    told = []
    for _ in range(4):
        told.append(second.left_s())
        now.s += 12
    assert told == [30, 18, 6, 6]  # the last: it takes longer than the first
    now.s += 24
    assert second.left_s() == 42


def test_no_wait_is_shorter_than_the_least(tmp_path: Path) -> None:
    (tmp_path / "last-start").write_text("30")
    now = Time()
    start = StartTime(tmp_path / "last-start", now)
    now.s += 30
    assert start.left_s() == AT_LEAST_S


@pytest.mark.parametrize("content", ["", "nan", "inf", "-1", "0", "soon", str(2 * MOST_S), "\u0665" * 99])
def test_a_file_that_says_nothing_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "last-start").write_text(content)
    assert StartTime(tmp_path / "last-start").left_s() == UNKNOWN_S


def test_a_folder_that_cannot_be_written_stops_no_start(tmp_path: Path) -> None:
    StartTime(tmp_path / "absent" / "last-start").end()
    assert not (tmp_path / "absent").exists()
