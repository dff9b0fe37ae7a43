"""Places for long work: never more at once than there are, and no tenant keeps another from its turn."""

import asyncio
from collections import Counter

from service.caching.turns import Turns


class Work:
    """Starts pieces of work, which end when they are told to."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places)
        self.begun: list[str] = []
        self.running: dict[str, asyncio.Event] = {}

    def start(self, tenant: str, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._run(tenant, name))

    async def end(self, name: str) -> None:
        self.running[name].set()
        await settled()

    async def _run(self, tenant: str, name: str) -> None:
        async with self.turns.of(tenant):
            self.begun.append(name)
            self.running[name] = asyncio.Event()
            try:
                await self.running[name].wait()
            finally:
                del self.running[name]


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_tenant_with_much_work_leaves_places_to_others() -> None:
    work = Work(4)
    tasks = [work.start("a", f"a{number}") for number in range(10)]
    await settled()
    assert work.begun == ["a0", "a1"], "half of the places"
    tasks += [work.start("b", f"b{number}") for number in range(3)] + [work.start("c", "c0")]
    await settled()
    assert work.begun == ["a0", "a1", "b0", "b1"]
    await work.end("b0")
    assert work.begun[4:] == ["c0"], "a and b have had a turn"
    await work.end("b1")
    await work.end("a0")
    assert sorted(work.begun[5:]) == ["a2", "b2"]
    assert len(work.running) == 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not work.turns._waiting
    assert work.turns._held.total() == 0


async def test_one_place_goes_round() -> None:
    work = Work(1)
    tasks = [work.start(tenant, f"{tenant}{number}") for tenant in "ab" for number in range(3)]
    await settled()
    for _ in range(6):
        await work.end(work.begun[-1])
    assert work.begun == ["a0", "b0", "a1", "b1", "a2", "b2"]
    await asyncio.gather(*tasks)


async def test_a_place_of_work_that_was_cancelled_is_free_again_whenever_it_was() -> None:
    for steps in range(8):
        work = Work(1)
        first, second, third = (work.start("a", str(number)) for number in range(3))
        await settled()
        work.running["0"].set()
        second.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        third.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        last = work.start("a", "last")
        await settled()
        await work.end("last")
        await last
        assert Counter(work.begun)["1"] == 0
