"""Workers that die, stop and hang, on a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from torch import Tensor

from service.engine import EngineSettings, NotReady
from service.engine.decoding.arena import Block
from service.engine.metrics import EngineMetrics
from service.engine.schedule.items import BatchKey
from service.engine.schedule.latency import LatencyBook
from service.engine.schedule.queue import FairQueue
from service.engine.schedule.supervisor import Supervisor
from service.engine.schedule.watchdog import HANGS_S, SUSPECT
from service.engine.settings import START_ATTEMPTS
from service.engine.worker.base import WorkerGoneError
from service.engine.worker.protocol import EncodedImages, EncodedText, HeadWork, Loaded
from tests.service.engine.stand_ins import PATIENCE_S, FakeClock, item, settle
from tests.service.engine.test_items import INFO
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import EncoderError

LOAD_S = 0.5  # of those that die over it
KEY = BatchKey("fake", POOLED, 4)
SETTINGS = EngineSettings(encoders=("fake",), restart_backoff_s=1.0, restart_backoff_max_s=8.0, batch_timeout_s=120.0)


class StandIn:
    """A worker that does as it is told.

    Args:
        clock: on which it loads.
        load_s: how long that takes.
        dies: while it loads.
        error: with which the load ends.
    """

    def __init__(
        self, clock: FakeClock, load_s: float = 0.0, *, dies: bool = False, error: Exception | None = None
    ) -> None:
        self._clock, self._load_s, self._dies, self._error = clock, load_s, dies, error
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.answers = asyncio.Event()
        self.answers.set()
        self.killed = self.pings = self.batches = 0

    async def start(self) -> None:
        """It runs."""

    async def load(self, name: str) -> Loaded:
        await self._clock.sleep(self._load_s)
        if self._dies:
            self.lost.set_result("killed while it loaded")
            raise WorkerGoneError("killed while it loaded")
        if self._error is not None:
            raise self._error
        return Loaded(replace(INFO, name=name), 4, ())

    async def unload(self, name: str) -> None:
        raise NotImplementedError

    async def ping(self) -> None:
        self.pings += 1
        await self._answer()

    async def encode_images(
        self, name: str, images: Sequence[Block], outputs: Outputs, heads: HeadWork
    ) -> EncodedImages:
        self.batches += 1
        await self._answer()
        return EncodedImages(np.ones((len(images), 4), np.float32), (), (), 0.1)

    async def encode_text(self, name: str, prompts: tuple[str, ...]) -> EncodedText:
        raise NotImplementedError

    def kill(self) -> None:
        self.killed += 1
        if not self.lost.done():
            self.lost.set_result("killed")

    async def stop(self) -> None:
        """It ends."""

    async def _answer(self) -> None:
        """Wait until it may answer, or is lost."""
        answering = asyncio.ensure_future(self.answers.wait())
        either: set[asyncio.Future[Any]] = {answering, self.lost}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        if self.lost.done():
            raise WorkerGoneError("lost")


class Site:
    """A supervisor with the workers that it is to get; without more of them, it gets good ones that load in 30 s."""

    def __init__(self) -> None:
        self.clock, self.queue = FakeClock(), FairQueue()
        self.coming: list[StandIn] = []
        self.made: list[StandIn] = []
        self.changes = 0
        self.supervisor = Supervisor(
            self._make,
            lambda: ("fake",),
            self.queue,
            LatencyBook(self.clock.now),
            EngineMetrics(CollectorRegistry()),
            SETTINGS,
            self.clock,
            self._changed,
        )

    @property
    def worker(self) -> StandIn:
        """The last that was made."""
        return self.made[-1]

    def answers(self) -> bool:
        """Whether a worker does."""
        return self.supervisor.answers

    async def encode(self) -> Tensor:
        """Let the worker encode one image."""
        one = item("a", KEY)
        self.queue.put(one)
        await settle()
        return one.result.result().features.pooled

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within this context workers are started."""
        running = asyncio.create_task(self.supervisor.run())
        yield
        running.cancel()
        await asyncio.wait([running])

    def _make(self) -> StandIn:
        self.made.append(self.coming.pop(0) if self.coming else StandIn(self.clock, 30.0))
        return self.made[-1]

    def _changed(self) -> None:
        self.changes += 1


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with site.running():
        yield site


async def test_a_worker_killed_while_it_loads_is_replaced_after_ever_longer_pauses(site: Site) -> None:
    await fall(site, deaths=5)
    pauses = [pause for pause in site.clock.pauses if pause != LOAD_S]
    assert pauses == [1, 2, 4, 8, 8, 8]
    await site.clock.advance(31)
    assert site.answers()


async def test_a_batch_that_was_served_makes_the_next_pause_short_again(site: Site) -> None:
    await fall(site, deaths=3)
    await site.clock.advance(31)
    await site.encode()
    site.clock.pauses.clear()
    site.worker.kill()
    await settle()
    assert site.clock.pauses == [1.0]


async def fall(site: Site, deaths: int) -> None:
    """The worker is killed, and then so many more while they load; the next one begins to load."""
    await site.clock.advance(31)
    site.coming = [StandIn(site.clock, LOAD_S, dies=True) for _ in range(deaths)]
    site.clock.pauses.clear()
    site.worker.kill()
    async with asyncio.timeout(PATIENCE_S):
        while site.clock.pauses[-1:] != [30.0]:
            await site.clock.advance(LOAD_S)
    site.clock.pauses.pop()


async def test_the_second_of_two_outages_is_predicted_by_the_first(site: Site) -> None:
    await site.clock.advance(31)
    for pause_s in (1.0, 2.0):  # the first worker served nothing either
        changes = site.changes
        site.worker.kill()
        await settle()
        assert not site.answers()
        assert site.supervisor.back_in_s() == pytest.approx(30.0 + pause_s)
        assert site.changes > changes, "who waits is told at once"
        await site.clock.advance(pause_s + 10.0)
        assert site.supervisor.back_in_s() == pytest.approx(20.0)
        await site.clock.advance(20.0)
        assert site.answers()
        assert site.supervisor.back_in_s() == 0.0


async def test_an_idle_worker_that_is_stopped_is_not_ready_and_then_replaced(site: Site) -> None:
    await site.clock.advance(35)
    stopped = site.worker
    stopped.answers.clear()
    await site.clock.advance(SUSPECT * HANGS_S + 3)
    assert not site.answers()
    assert stopped.killed == 0
    assert site.supervisor.back_in_s() == pytest.approx(30.0 + 1.0 + HANGS_S - 4, abs=2)
    await site.clock.advance(HANGS_S)
    assert stopped.killed == 1
    await site.clock.advance(31)
    assert site.worker is not stopped
    assert len(await site.encode()) == 1


async def test_a_worker_that_goes_on_in_time_is_kept(site: Site) -> None:
    await site.clock.advance(35)
    site.worker.answers.clear()
    await site.clock.advance(SUSPECT * HANGS_S + 3)
    assert not site.answers()
    site.worker.answers.set()
    await site.clock.advance(2)
    assert site.answers()
    assert (len(site.made), site.worker.killed) == (1, 0)


async def test_a_busy_worker_that_is_stopped_is_killed_by_what_its_batches_take_and_the_batch_is_done(
    site: Site,
) -> None:
    await site.clock.advance(35)
    await site.encode()
    stopped = site.worker
    stopped.answers.clear()
    one = item("a", KEY)
    site.queue.put(one)
    await site.clock.advance(HANGS_S + 2)
    assert stopped.killed == 1
    await site.clock.advance(35)
    assert one.result.result().features.pooled.shape == (1, 4)


async def test_a_batch_of_an_unknown_kind_may_take_what_is_set(site: Site) -> None:
    await site.clock.advance(35)
    site.worker.answers.clear()
    site.queue.put(item("a", KEY))
    await site.clock.advance(SETTINGS.batch_timeout_s - 5)
    assert site.worker.killed == 0
    await site.clock.advance(10)
    assert site.made[0].killed == 1


async def test_a_pause_of_the_whole_machine_is_no_silence(site: Site) -> None:
    await site.clock.advance(35)
    site.worker.answers.clear()
    await site.clock.advance(1)
    site.clock.at += 1000.0
    await site.clock.advance(1)
    site.worker.answers.set()
    await site.clock.advance(5)
    assert site.worker.killed == 0
    assert site.answers()


async def test_what_a_silent_worker_has_is_failed_when_it_can_not_be_done_in_time(site: Site) -> None:
    await site.clock.advance(35)
    site.worker.answers.clear()
    soon, later = item("a", KEY, deadline=1e9), item("b", KEY, deadline=2e9)
    site.queue.put(soon)
    site.queue.put(later)
    await settle()
    site.supervisor.fail_before(1.5e9, NotReady("no worker", 30.0))
    assert isinstance(soon.result.exception(), NotReady)
    assert not later.result.done()


async def test_deaths_in_the_first_start_are_retried_and_told_only_when_none_of_many_came_up() -> None:
    site = Site()
    site.coming = [StandIn(site.clock, LOAD_S, dies=True) for _ in range(START_ATTEMPTS)]
    async with site.running():
        await settle()
        while len(site.made) < START_ATTEMPTS:
            assert not site.supervisor.settled.is_set()
            assert site.supervisor.failure is None
            await site.clock.advance(LOAD_S)
        await site.clock.advance(LOAD_S)
        assert site.supervisor.settled.is_set()
        assert isinstance(site.supervisor.failure, WorkerGoneError)
        await site.clock.advance(SETTINGS.restart_backoff_max_s + 31)
        assert site.answers(), "a further one was started all the same"
        assert site.supervisor.failure is None


async def test_an_encoder_that_can_not_be_loaded_is_told_at_once() -> None:
    site = Site()
    site.coming = [StandIn(site.clock, LOAD_S, error=EncoderError("no such checkpoint"))]
    async with site.running():
        await site.clock.advance(LOAD_S)
        assert site.supervisor.settled.is_set()
        assert isinstance(site.supervisor.failure, EncoderError)
