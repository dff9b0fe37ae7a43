"""Worker processes that die; each new one takes seconds to come up."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import pytest
import pytest_asyncio
import torch

from service.engine import EncodedImage, EngineSettings, LocalEngine, NotReady, WorkerLost
from service.engine.decoding.arena import PixelArena
from service.engine.decoding.memory import LEAST_BYTES, PixelMemory
from service.engine.schedule import watchdog
from service.engine.worker import process
from service.engine.worker.base import WorkerPlan
from service.engine.worker.process import ProcessWorker
from service.engine.worker.protocol import HeadWork
from tests.fakes import FakeEncoder
from tests.service.engine.stand_ins import DEADLY, PARALYSING, PATIENCE_S, EchoHead, Rows, load_mortal, picture, shades
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import ImageError, TaskError
from vlm_ood.images import load_image

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

Lives = Callable[[int], object]


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    """For the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def dies(tmp_path_factory: pytest.TempPathFactory, patched: pytest.MonkeyPatch) -> Lives:
    """How often the deadly pictures kill from now on."""
    path = tmp_path_factory.mktemp("worker") / "lives"
    path.write_text("0")
    patched.setenv("VLM_OOD_TEST_LIVES", str(path))
    patched.setenv("VLM_OOD_CACHE", str(path.parent / "cache"))
    return lambda times: path.write_text(str(times))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(dies: Lives) -> AsyncIterator[LocalEngine]:
    """With one worker process, and memory that has room for a few images; afterwards none of it is in use."""
    engine = LocalEngine(
        EngineSettings(
            encoders=("fake",),
            device="cpu",
            deadline_s=120.0,
            batch_timeout_s=5.0,
            restart_backoff_s=0.0,
            image_cache_bytes=0,
            pixel_bytes=LEAST_BYTES,
            load=load_mortal,
        )
    )
    await engine.start()
    yield engine
    assert engine._decoder.arena.free_bytes == LEAST_BYTES
    await engine.stop()


def worker_of(engine: LocalEngine) -> ProcessWorker:
    (worker,) = engine._fleet.workers()
    assert isinstance(worker, ProcessWorker)
    return worker


async def test_features_come_back_from_the_process_and_signals_do_not_end_it(engine: LocalEngine) -> None:
    pid = worker_of(engine).pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    answers = await engine.encode_images("fake", [picture("red"), b"no picture", picture("blue")], head=EchoHead())
    expected = FakeEncoder().encode_images([load_image(picture(colour)) for colour in ("red", "blue")], patches=True)
    for answer, row in ((answers[0], 0), (answers[2], 1)):
        assert isinstance(answer, EncodedImage)
        assert isinstance(answer.answer, Rows)
        assert expected.patches is not None
        torch.testing.assert_close(answer.features.pooled[0], expected.pooled[row])
        torch.testing.assert_close(torch.from_numpy(answer.answer.values[0]), expected.patches[row])
    vectors = await engine.encode_text("fake", ["red process", "green"])
    torch.testing.assert_close(vectors, FakeEncoder().encode_text(["red process", "green"]))
    assert worker_of(engine).pid == pid


async def test_a_worker_killed_in_a_batch_is_replaced_and_the_batch_is_done(engine: LocalEngine, dies: Lives) -> None:
    before = worker_of(engine).pid
    dies(1)
    answers = await engine.encode_images("fake", [*shades(3), picture(DEADLY)])
    assert all(isinstance(answer, EncodedImage) for answer in answers)
    await engine.probe()
    assert worker_of(engine).pid != before


async def test_without_a_worker_nothing_is_ready_until_the_next_one_is(engine: LocalEngine) -> None:
    worker = worker_of(engine)
    worker.kill()
    await asyncio.wait_for(asyncio.shield(worker.lost), PATIENCE_S)
    while engine._fleet.ready():
        await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await engine.probe()
    (answer,) = await engine.encode_images("fake", [picture("red")])
    assert isinstance(answer, EncodedImage)
    await engine.probe()


async def test_an_idle_worker_that_is_stopped_is_noticed_and_replaced(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "HANGS_S", 2.0)
    monkeypatch.setattr(watchdog, "EVERY_S", 0.2)
    await engine.probe()
    pid = worker_of(engine).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_S):
        while engine._fleet.ready():
            await asyncio.sleep(0)
    with pytest.raises(NotReady) as refusal:
        await engine.probe()
    assert refusal.value.retry_after_s == pytest.approx(engine.queue_state().back_in_s, abs=1)
    (answer,) = await engine.encode_images("fake", [picture("red")])
    assert isinstance(answer, EncodedImage)
    assert worker_of(engine).pid != pid


async def test_what_kills_two_workers_is_given_up_and_harms_no_other_request(engine: LocalEngine, dies: Lives) -> None:
    dies(2)
    deadly = asyncio.create_task(engine.encode_images("fake", [picture(DEADLY)]))
    other = asyncio.create_task(engine.encode_images("fake", shades(2)))
    with pytest.raises(WorkerLost):
        await deadly
    assert all(isinstance(answer, EncodedImage) for answer in await other)


async def test_a_worker_that_hangs_is_killed(engine: LocalEngine, dies: Lives) -> None:
    dies(1)
    (answer,) = await engine.encode_images("fake", [picture(PARALYSING)])
    assert isinstance(answer, EncodedImage)


async def test_a_worker_that_hangs_with_a_full_pipe_is_stopped(dies: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.5)
    memory = PixelMemory(LEAST_BYTES)
    memory.open()
    worker = ProcessWorker(WorkerPlan(load_mortal, "cpu", "auto", 1, None), memory)
    await worker.start()
    info = (await worker.load("fake")).info
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    large = EchoHead(fails_on=np.zeros(2**20, np.float32))
    blank = PixelArena(memory).allocate((3, *info.input_size(POOLED)))
    assert blank is not None
    sent = asyncio.create_task(worker.encode_images("fake", [blank], large.outputs, HeadWork(install=(large,))))
    await asyncio.sleep(0.5)
    sent.cancel()
    try:
        await asyncio.wait_for(worker.stop(), PATIENCE_S)
    finally:
        worker.kill()
        memory.close()
    assert worker.lost.done()


async def test_images_that_fill_the_memory_wait_for_one_another(engine: LocalEngine) -> None:
    larger = EchoHead("large", Outputs(patches=True, size=(512, 512)))  # 768 KiB each
    contents = shades(4)
    answers = await engine.encode_images("fake", contents, head=larger)
    expected = FakeEncoder().encode_pixels(
        torch.stack([FakeEncoder().preprocessing.at((512, 512))(load_image(content)) for content in contents]),
        larger.outputs,
    )
    for answer, patches in zip(answers, expected.patches if expected.patches is not None else (), strict=True):
        assert isinstance(answer, EncodedImage)
        assert isinstance(answer.answer, Rows)
        torch.testing.assert_close(torch.from_numpy(answer.answer.values[0]), patches)
    too_large = EchoHead("too large", Outputs(patches=True, size=(1024, 1024)))
    (answer,) = await engine.encode_images("fake", [picture("red")], head=too_large)
    assert isinstance(answer, ImageError)


async def test_a_new_worker_gets_the_heads_again_and_a_broken_one_is_the_error_of_its_request(
    engine: LocalEngine,
) -> None:
    head, broken = EchoHead("again"), EchoHead("broken", broken=[TaskError("no such state")])

    async def ask() -> None:
        good, bad = await asyncio.gather(
            engine.encode_images("fake", shades(3), head=head), engine.encode_images("fake", shades(2), head=broken)
        )
        assert all(isinstance(answer, EncodedImage) and isinstance(answer.answer, Rows) for answer in good)
        assert [type(answer) for answer in bad] == [TaskError] * 2

    await ask()
    worker = worker_of(engine)
    before = worker.pid
    worker.kill()
    await asyncio.wait_for(asyncio.shield(worker.lost), PATIENCE_S)
    await ask()
    assert worker_of(engine).pid != before
