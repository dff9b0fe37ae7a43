"""An engine whose processes are killed while it starts, or stopped, the one that forks decoders included."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.engine import EncodedImage, EngineSettings, LocalEngine, WorkerLost
from service.engine.decoding.memory import LEAST_BYTES, PixelMemory
from service.engine.decoding.process import FORK_SERVER
from service.engine.fork_server import ForkServer
from service.engine.schedule.fleet import forks_for
from service.engine.stopped import is_stopped
from service.engine.worker.base import WorkerPlan
from service.engine.worker.process import ProcessWorker
from tests.fakes import FakeEncoder
from tests.service.engine.stand_ins import PATIENCE_S, load_mortal, picture
from vlm_ood.encoders.device import Precision

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc, which tells that a process is stopped"),
]


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Path]:
    """A file with how often processes die."""
    path = tmp_path / "lives"
    path.write_text("0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLM_OOD_TEST_LIVES", str(path))
        patch.setenv("VLM_OOD_CACHE", str(tmp_path / "cache"))
        yield path


def load_after_deaths(name: str, device: str, dtype: Precision) -> FakeEncoder:
    """What a worker process imports: it dies while it loads, as often as the file says."""
    path = Path(os.environ["VLM_OOD_TEST_LIVES"])
    if left := int(path.read_text()):
        path.write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return load_mortal(name, device, dtype)


@asynccontextmanager
async def started(**changes: object) -> AsyncIterator[LocalEngine]:
    settings = {
        "encoders": ("fake",),
        "device": "cpu",
        "decode_processes": 2,
        "deadline_s": PATIENCE_S,
        "restart_backoff_s": 0.0,
        "image_cache_bytes": 0,
        "load": load_after_deaths,
    }
    engine = LocalEngine(EngineSettings(**(settings | changes)))  # type: ignore[arg-type]
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def encode(engine: LocalEngine) -> None:
    """One image is answered."""
    (answer,) = await engine.encode_images("fake", [picture("red")])
    assert isinstance(answer, EncodedImage)


async def test_a_worker_killed_in_the_first_start_is_replaced(lives: Path) -> None:
    lives.write_text("2")
    async with started() as engine:
        assert lives.read_text() == "0"
        await encode(engine)


async def test_a_start_under_which_every_worker_dies_ends(lives: Path) -> None:
    lives.write_text("1000")
    with pytest.raises(WorkerLost):
        async with started():
            pass


async def test_stopped_decoders_and_what_forks_them_are_replaced(lives: Path) -> None:
    async with started() as engine:
        await encode(engine)
        pids = {process.pid for process in engine._decoder.processes()}
        assert FORK_SERVER.pid in pids
        for pid in pids:
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
        await asyncio.wait_for(asyncio.gather(*(encode(engine) for _ in range(4))), PATIENCE_S)
        assert FORK_SERVER.pid not in pids
        assert not any(is_stopped(pid) for pid in pids if pid is not None)


async def test_a_worker_that_is_stopped_while_it_loads_is_replaced(lives: Path) -> None:
    async with started() as engine:
        await encode(engine)
        before, forks = engine._fleet.processes()
        before.kill()
        async with asyncio.timeout(PATIENCE_S):
            while (loading := engine._fleet.processes()[0]) in {before, forks}:
                await asyncio.sleep(0)
        stopped = loading.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        await encode(engine)
        assert engine._fleet.processes()[0].pid != stopped


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_what_forks_workers_is_replaced_and_the_worker_that_it_forked_can_still_be_killed(
    lives: Path, number: signal.Signals
) -> None:
    async with started() as engine:
        await encode(engine)
        worker, forks = engine._fleet.processes()
        assert worker.pid is not None
        assert forks.pid is not None
        os.kill(forks.pid, number)
        await encode(engine)
        assert engine._fleet.processes()[0] is worker, "it lives on"
        worker.kill()
        await gone(worker.pid)
        await encode(engine)


async def test_a_worker_that_can_not_be_forked_is_spawned(
    lives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_preload.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    memory, forks = PixelMemory(LEAST_BYTES), ForkServer.of(["no_preload"])
    memory.open()
    worker = ProcessWorker(WorkerPlan(load_mortal, "cpu", "auto", 1, None), memory, forks)
    try:
        await worker.start()
        assert (await worker.load("fake")).info.name == "fake"
    finally:
        await worker.stop()
        forks.end()
        memory.close()


def test_what_forks_workers_has_one_thread() -> None:
    """A lock that another thread holds at a fork stays locked in the child for ever."""
    forks = forks_for(EngineSettings(device="cpu"))
    if forks is None:
        pytest.skip("workers are not forked beside CUDA")
    child = forks.process(print, (), "child")
    child.start()
    child.join()
    try:
        assert len(list(Path(f"/proc/{forks.pid}/task").iterdir())) == 1
    finally:
        forks.end()


async def gone(pid: int) -> None:
    """Until the process has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)
