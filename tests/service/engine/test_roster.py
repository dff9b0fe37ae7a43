import asyncio

import pytest

from service.engine.records import EncoderInfo
from service.engine.schedule.roster import Roster
from service.engine.worker.executor import Executor
from tests.service.engine.stand_ins import Gate, GatedEncoder
from vlm_ood.errors import CheckpointError, UnknownNameError


class Workers:
    """Loads and unloads in the order they came; loads wait while `held`."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.held = asyncio.Event()
        self.held.set()
        self.broken: set[str] = set()
        self._executor = Executor(lambda name, device, dtype: GatedEncoder(Gate(), name), "cpu", "auto")

    async def load(self, name: str) -> EncoderInfo:
        self.events.append(f"+{name}")
        await self.held.wait()
        if name in self.broken:
            raise CheckpointError("no weights")
        return self._executor.load(name, 1).info

    async def unload(self, name: str) -> None:
        self.events.append(f"-{name}")


def roster(workers: Workers, limit: int = 2) -> Roster:
    return Roster(("first", "second", "third"), limit, workers.load, workers.unload)


async def use(encoders: Roster, name: str) -> str:
    async with encoders.lease(name) as info:
        return info.name


async def test_many_who_ask_at_once_cause_one_load() -> None:
    workers = Workers()
    encoders = roster(workers)
    assert await asyncio.gather(*(use(encoders, "first") for _ in range(5))) == ["first"] * 5
    assert workers.events == ["+first"]


async def test_the_least_recently_used_one_goes_and_the_default_stays() -> None:
    workers = Workers()
    encoders = roster(workers)
    for name in ("first", "second", "third", "second"):
        await use(encoders, name)
    assert workers.events == ["+first", "+second", "-second", "+third", "-third", "+second"]
    assert encoders.loaded() == ("first", "second")


async def test_with_room_for_one_the_default_stays_and_others_come_and_go() -> None:
    workers = Workers()
    encoders = roster(workers, limit=1)
    for name in ("first", "second", "third"):
        await use(encoders, name)
    assert encoders.loaded() == ("first", "third")


async def test_an_encoder_in_use_is_not_taken_away() -> None:
    workers = Workers()
    encoders = roster(workers)
    await use(encoders, "first")
    async with encoders.lease("second"):
        waiting = asyncio.create_task(use(encoders, "third"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert "-second" not in workers.events
    assert await waiting == "third"
    assert workers.events[-2:] == ["-second", "+third"]


async def test_a_load_goes_on_when_its_caller_leaves() -> None:
    workers = Workers()
    encoders = roster(workers)
    workers.held.clear()
    asking = asyncio.create_task(use(encoders, "first"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert encoders.state("first") == "loading"
    asking.cancel()
    workers.held.set()
    assert await use(encoders, "first") == "first"
    assert workers.events == ["+first"]


async def test_a_failed_load_says_so_and_is_tried_again() -> None:
    workers = Workers()
    encoders = roster(workers)
    workers.broken.add("second")
    with pytest.raises(CheckpointError):
        await use(encoders, "second")
    assert encoders.state("second") == "failed"
    workers.broken.clear()
    await use(encoders, "second")
    assert encoders.state("second") == "ready"


async def test_what_is_not_offered_can_not_be_asked_for() -> None:
    encoders = roster(Workers())
    with pytest.raises(UnknownNameError, match="first"):
        await use(encoders, "/etc/passwd")
    with pytest.raises(UnknownNameError):
        encoders.state("frist")
