"""Work that builds banks stops soon after nobody waits for it, and its place goes to another."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.banks.building import Building
from service.banks.cache import MemoryBanks
from service.banks.made import LoadedSources
from tests.service.fakes import FakeEngine
from vlm_ood.io.cache import DiskCache
from vlm_ood.tasks import Builder, MinedBank, TemplateBank
from vlm_ood.types import TextBank


class SlowEngine(FakeEngine):
    """Encodes text when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.text_gate, self.asked, self.stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def encode_text(self, encoder: str, prompts: Sequence[str], **options: Any) -> Tensor:
        self.asked.set()
        try:
            await self.text_gate.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        return await super().encode_text(encoder, prompts, **options)


@pytest.fixture
def building(tmp_path: Path) -> Iterator[Building]:
    caches = MemoryBanks(DiskCache(tmp_path / "banks"), 2**20), DiskCache(tmp_path / "words")
    with ThreadPoolExecutor(3) as threads, ThreadPoolExecutor(1) as mining:
        yield Building(SlowEngine(), threads, 2, mining, *caches, 60.0)


BANK = TemplateBank(("red", "blue"))
MINED = MinedBank(words=("lime", "white", "sofa", "lamp"), keep=0.5, classes=BANK)


async def begun(building: Building, tenant: str, work: Callable[[Builder], object], *, mines: bool = False) -> "Task":
    encoder = await building.engine.encoder("fake")
    return asyncio.create_task(building.run(tenant, encoder, LoadedSources({}), work, mines=mines))


Task = asyncio.Task[object]


@pytest.mark.parametrize("spec", [BANK, MINED])
async def test_text_that_is_being_encoded_is_given_up(building: Building, spec: TemplateBank | MinedBank) -> None:
    engine = building.engine
    assert isinstance(engine, SlowEngine)
    running = await begun(building, "a", lambda builder: builder.bank(spec), mines=spec is MINED)
    await engine.asked.wait()
    running.cancel()
    async with asyncio.timeout(30):
        await engine.stopped.wait()
        with pytest.raises(asyncio.CancelledError):
            await running
    engine.text_gate.set()
    bank = await (await begun(building, "a", lambda builder: builder.bank(spec), mines=spec is MINED))
    assert isinstance(bank, TextBank)
    assert len(bank) == 2


async def test_work_between_two_chunks_stops_at_the_next(building: Building) -> None:
    in_thread, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    reached: list[str] = []

    def work(builder: Builder) -> None:
        loop.call_soon_threadsafe(in_thread.set)
        assert go_on.wait(30)
        assert builder.progress is not None
        builder.progress(1)
        reached.append("the next chunk")

    running = await begun(building, "a", work)
    await in_thread.wait()
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done(), "the place is taken while the thread runs"
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert reached == []


async def test_a_tenant_waits_for_its_own_work_and_not_another_tenant(building: Building) -> None:
    go_on = threading.Event()
    waiting = [await begun(building, "a", lambda _: go_on.wait(30)) for _ in range(5)]
    other = await begun(building, "b", lambda _: torch.is_inference_mode_enabled())
    assert await asyncio.wait_for(other, 30) is True
    assert not any(each.done() for each in waiting)
    go_on.set()
    assert await asyncio.gather(*waiting) == [True] * 5
