"""What a start does before the first request."""

import gc
from pathlib import Path

import pytest

from service.banks.building import Building
from service.engine import EncoderInfo, NotReady
from service.lifecycle import Lifecycle
from service.memory import keep_what_is_loaded
from service.services import assemble
from service.settings import Settings
from tests.service.fakes import FakeEngine


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


@pytest.mark.parametrize("failure", [None, NotReady("no worker", 1.0)])
async def test_a_start_makes_the_background_and_goes_on_without_it(
    failure: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    async def share(_: Building, encoder: EncoderInfo) -> None:
        made.append(encoder.name)
        if failure is not None:
            raise failure

    monkeypatch.setattr(Building, "share_background", share)
    services = assemble(Settings(data=tmp_path, encoders=("fake", "other")), FakeEngine())

    await services.start()

    assert made == ["fake", "other"]
    assert services.lifecycle.started
    await services.stop()
