import asyncio

import pytest

from service.caching.flight import SingleFlight


async def test_callers_at_once_share_one_task() -> None:
    flights: SingleFlight[str, int] = SingleFlight(abandon=False)
    done: list[int] = []

    async def work() -> int:
        await asyncio.sleep(0)
        done.append(1)
        return len(done)

    assert await asyncio.gather(*(flights.run("key", work) for _ in range(5))) == [1] * 5
    assert await flights.run("key", work) == 2


async def test_an_error_reaches_every_caller_and_is_not_kept() -> None:
    flights: SingleFlight[str, int] = SingleFlight(abandon=False)

    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    results = await asyncio.gather(*(flights.run("key", fail) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert "key" not in flights


@pytest.mark.parametrize("abandon", [True, False])
async def test_the_task_ends_with_its_last_caller_only_if_told_so(abandon: bool) -> None:
    flights: SingleFlight[str, int] = SingleFlight(abandon=abandon)
    gate, ended = asyncio.Event(), asyncio.Event()
    outcome: list[str] = []

    async def work() -> int:
        try:
            await gate.wait()
            outcome.append("finished")
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise
        finally:
            ended.set()
        return 1

    callers = [asyncio.create_task(flights.run("key", work)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.wait(callers[:1])
    for _ in range(10):  # a task that is cancelled ends within three turns of the loop
        await asyncio.sleep(0)
    assert not ended.is_set()
    callers[1].cancel()
    await asyncio.wait(callers)
    gate.set()
    await ended.wait()
    assert outcome == ["cancelled" if abandon else "finished"]


async def test_closing_cancels_what_is_running() -> None:
    flights: SingleFlight[str, bool] = SingleFlight(abandon=False)
    callers = [asyncio.create_task(flights.run(key, asyncio.Event().wait)) for key in "ab"]
    await asyncio.sleep(0)
    assert len(flights) == 2
    await flights.close()
    await asyncio.wait(callers)
    assert [caller.cancelled() for caller in callers] == [True, True]
    assert len(flights) == 0


async def test_the_end_of_an_abandoned_task_does_not_end_the_next_one_of_its_key() -> None:
    flights: SingleFlight[str, int] = SingleFlight(abandon=True)
    may_end, ended, gate = asyncio.Event(), asyncio.Event(), asyncio.Event()
    started: list[int] = []

    async def slow_to_end() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            ended.set()
        return 1

    async def held() -> int:
        started.append(1)
        await gate.wait()
        return 2

    first = asyncio.create_task(flights.run("key", slow_to_end))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(flights.run("key", held))
    await asyncio.sleep(0)
    may_end.set()
    await ended.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    third = asyncio.create_task(flights.run("key", held))
    await asyncio.sleep(0)
    gate.set()
    assert list(await asyncio.gather(second, third)) == [2, 2]
    assert started == [1]
