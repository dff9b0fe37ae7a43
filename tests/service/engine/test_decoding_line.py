"""Who gets the next decoder: tenants in turn, within a tenant the first that came."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from service.engine.decoding.arena import Block, PixelArena
from service.engine.decoding.base import Picture
from service.engine.decoding.line import Line
from service.engine.decoding.memory import LEAST_BYTES, PixelMemory
from tests.fakes import FakeEncoder
from tests.service.engine.stand_ins import PATIENCE_S

SMALL = FakeEncoder().preprocessing
LARGE = SMALL.at((512, 512))  # more than half of the memory


@dataclass
class Work:
    """Pictures by name, of the tenant that the first letter names.

    Attributes:
        begun: names, in the order in which a decoder took them.
    """

    line: Line
    begun: list[str] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)

    def put(self, *names: str, large: bool = False) -> None:
        for name in names:
            self.pictures[name] = Picture(b"", LARGE if large else SMALL, name[0])
            self.line.put(self.pictures[name])

    async def begin(self) -> None:
        """A free decoder takes the next."""
        async with asyncio.timeout(PATIENCE_S):
            picture, block = await self.line.next()
        (name,) = (name for name, each in self.pictures.items() if each is picture)
        self.begun.append(name)
        self.blocks[name] = block

    def end(self, name: str, seconds: float) -> None:
        """Its decoder is free; its pixels stay."""
        self.pictures[name].seconds = seconds
        self.line.done(self.pictures[name])


@pytest.fixture
def work() -> Iterator[Work]:
    memory = PixelMemory(LEAST_BYTES)
    memory.open()
    yield Work(Line(PixelArena(memory)))
    memory.close()


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_free_decoder_takes_the_picture_of_a_tenant_that_holds_none(work: Work) -> None:
    work.put("a0", "a1", "a2", "a3", "a4")
    await work.begin()
    await work.begin()
    work.put("b0", "b1")
    work.end("a0", 5.0)
    await work.begin()
    assert work.begun == ["a0", "a1", "b0"]
    work.end("b0", 0.1)
    await work.begin()
    assert work.begun[3:] == ["b1"], "a holds the other decoder"
    work.end("a1", 5.0)
    await work.begin()
    assert work.begun[4:] == ["a2"], "b holds the other decoder"


async def test_one_decoder_is_shared_by_the_seconds_that_pictures_take(work: Work) -> None:
    work.put("a0", "a1", "a2", *(f"b{number}" for number in range(7)))
    for _ in range(10):
        await work.begin()
        name = work.begun[-1]
        work.end(name, 3.0 if name[0] == "a" else 1.0)
    assert "".join(name[0] for name in work.begun) == "abbbabbbab"


async def test_a_tenant_that_sent_nothing_has_no_claim_to_that_time(work: Work) -> None:
    work.put("b0", "a0", "a1", "a2")
    for _ in range(3):
        await work.begin()
        work.end(work.begun[-1], 0.0 if work.begun[-1] == "b0" else 10.0)
    work.put(*(f"b{number}" for number in range(1, 5)))
    for _ in range(3):
        await work.begin()
        work.end(work.begun[-1], 10.0)
    assert work.begun == ["b0", "a0", "a1", "b1", "a2", "b2"]


async def test_a_tenant_that_is_gone_leaves_nothing(work: Work) -> None:
    for tenant in "abc":
        work.put(tenant)
        await work.begin()
        work.end(tenant, 0.0)
    assert not work.line._served_s
    assert not work.line._decoding
    assert not work.line._waiting


async def test_who_finds_the_memory_full_waits_in_order(work: Work) -> None:
    work.put("a0", large=True)
    await work.begin()
    work.put("a1", large=True)
    work.put("a2")
    free = [asyncio.create_task(work.begin()) for _ in range(2)]
    await settle()
    assert work.begun == ["a0"], "a2 would overtake a1, for ever if more came"
    work.blocks["a0"].release()
    await asyncio.gather(*free)
    assert work.begun == ["a0", "a1", "a2"]


async def test_memory_that_is_free_again_goes_to_the_tenant_whose_turn_it_is_then(work: Work) -> None:
    work.put("a0", large=True)
    await work.begin()
    work.end("a0", 1.0)
    work.put("a1", "a2", large=True)
    free = [asyncio.create_task(work.begin()) for _ in range(2)]
    await settle()
    work.put("b0")
    await asyncio.wait(free, return_when=asyncio.FIRST_COMPLETED)
    assert work.begun == ["a0", "b0"], "a1 waits for memory, and holds no decoder"
    work.blocks["a0"].release()
    await asyncio.gather(*free)
    assert work.begun == ["a0", "b0", "a1"]


async def test_who_leaves_the_line_makes_way(work: Work) -> None:
    work.put("a0", large=True)
    await work.begin()
    work.put("a1", large=True)
    work.put("a2")
    free = asyncio.create_task(work.begin())
    await settle()
    work.line.remove(work.pictures["a1"])
    await free
    assert work.begun == ["a0", "a2"]


async def test_a_decoder_that_ends_while_it_waits_takes_nothing(work: Work) -> None:
    ending = asyncio.create_task(work.begin())
    await settle()
    work.put("a0")
    ending.cancel()
    await asyncio.wait({ending})
    assert work.line.clear() == [work.pictures["a0"]]
    assert not work.begun
