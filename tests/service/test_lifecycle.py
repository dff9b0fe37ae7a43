"""What a start does before the first request."""

import gc

import pytest

from service.lifecycle import Lifecycle
from service.memory import keep_what_is_loaded


async def test_a_start_settles_after_its_work_and_before_requests() -> None:
    done: list[str] = []
    lifecycle = Lifecycle(drain_s=1.0)

    async def work() -> None:
        done.append("work")

    def settle() -> None:
        assert not lifecycle.started
        done.append("settle")

    lifecycle.settle = settle
    await lifecycle.start(work)
    assert done == ["work", "settle"]
    assert lifecycle.started


def test_what_is_loaded_is_not_searched_again(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(gc.unfreeze)
    kept = [object(), []]
    keep_what_is_loaded()
    assert gc.get_freeze_count() > 0
    assert not any(each is kept for each in gc.get_objects())
