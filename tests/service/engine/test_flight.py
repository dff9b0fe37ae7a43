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
    await asyncio.sleep(0)
    assert not ended.is_set()
    callers[1].cancel()
    await asyncio.wait(callers)
    gate.set()
    await ended.wait()
    assert outcome == ["cancelled" if abandon else "finished"]
