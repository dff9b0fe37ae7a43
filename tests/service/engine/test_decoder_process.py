"""Decoder processes that are killed, stopped, or over a limit; the first takes seconds to come up."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image
from prometheus_client import CollectorRegistry

from service.engine import EncodedImage, EngineSettings, LocalEngine
from service.engine.decoding import process
from service.engine.decoding.base import Picture
from service.engine.decoding.memory import LEAST_BYTES, PixelMemory
from service.engine.decoding.pool import DecodePool
from service.engine.decoding.process import DecoderProcess
from service.engine.decoding.protocol import Reply, unpacked
from service.engine.metrics import EngineMetrics
from tests.conftest import ROOT
from tests.fakes import FakeEncoder
from tests.hostile_images import encoded, progressive_jpeg
from tests.service.engine.stand_ins import PATIENCE_S, HostilePreprocessing, load_mortal, picture
from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits, load_image

pytestmark = pytest.mark.slow
in_module = pytest.mark.asyncio(loop_scope="module")

PREPROCESSING = FakeEncoder().preprocessing
SETTINGS = EngineSettings(
    decode_processes=2,
    decode_cpu_s=0.5,
    decode_memory_bytes=300 * 2**20,
    pixel_bytes=LEAST_BYTES,
    image_limits=ImageLimits(max_scans=10**6),
    restart_backoff_s=0.0,
    decode_timeout_s=300.0,
)

Act = Callable[..., HostilePreprocessing]


@pytest.fixture
def act(tmp_path: Path) -> Act:
    """A preprocessing that does something so many times."""

    def make(what: str, times: int = 1) -> HostilePreprocessing:
        lives = tmp_path / what
        lives.write_text(str(times))
        return HostilePreprocessing(**vars(PREPROCESSING), act=what, lives=str(lives))  # type: ignore[arg-type]

    return make


@asynccontextmanager
async def started(settings: EngineSettings) -> AsyncIterator[DecodePool]:
    memory = PixelMemory(settings.pixel_bytes)
    memory.open()
    pool = DecodePool(settings, memory, EngineMetrics(CollectorRegistry()))
    await pool.start()
    try:
        await all_up(pool)
        yield pool
    finally:
        await pool.stop()
        memory.close()
        assert not decoders(pool)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[DecodePool]:
    async with started(SETTINGS) as pool:
        yield pool
        assert pool.arena.free_bytes == LEAST_BYTES


@pytest_asyncio.fixture(loop_scope="module")
async def hasty() -> AsyncIterator[DecodePool]:
    """With a limit on the time that passes, not on that of the CPU."""
    async with started(replace(SETTINGS, decode_cpu_s=600.0, decode_timeout_s=1.0)) as pool:
        yield pool


async def all_up(pool: DecodePool) -> None:
    """Until every decoder is ready."""
    async with asyncio.timeout(PATIENCE_S):
        while len(decoders(pool)) < pool.size:
            await asyncio.sleep(0.01)


def decoders(pool: DecodePool) -> list[DecoderProcess]:
    return [lane.decoder for lane in pool.lanes if isinstance(lane.decoder, DecoderProcess)]


def pids(pool: DecodePool) -> set[int | None]:
    return {decoder.pid for decoder in decoders(pool)}


def lost(pool: DecodePool, reason: str) -> float:
    return pool.metrics.decoders_lost.labels(reason)._value.get()  # type: ignore[no-any-return]


async def lives_end(preprocessing: HostilePreprocessing) -> None:
    """Until it has done what it does as often as it was to."""
    async with asyncio.timeout(PATIENCE_S):
        while Path(preprocessing.lives).read_text() != "0":
            await asyncio.sleep(0.01)


async def ask(pool: DecodePool, content: bytes, preprocessing: HostilePreprocessing | None = None) -> None:
    """Decode and compare with the library."""
    block = await pool.pixels(Picture(content, preprocessing or PREPROCESSING))
    assert block.pixels().equal(PREPROCESSING(load_image(content, SETTINGS.image_limits)))
    block.release()


@in_module
async def test_pixels_come_from_another_process_and_signals_do_not_end_it(pool: DecodePool) -> None:
    await asyncio.gather(*(ask(pool, picture((row, 0, 0), side=40)) for row in range(8)))
    before = pids(pool)
    assert len(before) == 2
    assert os.getpid() not in before
    for decoder in decoders(pool):
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGTERM)
        os.kill(decoder.pid, signal.SIGINT)
    await asyncio.gather(*(ask(pool, picture("red")) for _ in range(8)))
    assert pids(pool) == before


@pytest.mark.parametrize("content", [b"", b"no picture", picture("red")[:40]])
@in_module
async def test_a_bad_file_is_its_own_error_and_costs_no_process(pool: DecodePool, content: bytes) -> None:
    before = pids(pool)
    with pytest.raises(ImageError) as error:
        await pool.pixels(Picture(content, PREPROCESSING))
    with pytest.raises(ImageError) as expected:
        load_image(content)
    assert str(error.value) == str(expected.value)
    assert pids(pool) == before


@in_module
async def test_a_file_larger_than_a_socket_holds_arrives_whole(pool: DecodePool) -> None:
    await ask(pool, encoded(Image.effect_noise((1500, 1500), 90).convert("RGB")))


@in_module
async def test_decoders_killed_before_their_work_are_replaced(pool: DecodePool) -> None:
    before = pids(pool)
    for decoder in decoders(pool):
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGKILL)
    await asyncio.gather(*(ask(pool, picture("red")) for _ in range(4)))
    await all_up(pool)
    assert not pids(pool) & before


@pytest.mark.parametrize("phase", ["kill", "kill after writing"])
@in_module
async def test_a_picture_survives_the_death_of_one_decoder_but_not_of_two(
    pool: DecodePool, act: Act, phase: str
) -> None:
    before = lost(pool, "crash")
    neighbour = asyncio.create_task(ask(pool, picture("blue")))
    await ask(pool, picture("red"), act(phase, 1))
    with pytest.raises(ImageError, match="the decoder crashed on it"):
        await ask(pool, picture("red"), act(phase, 2))
    await neighbour
    assert lost(pool, "crash") == before + 3


@in_module
async def test_a_picture_over_the_limit_on_cpu_time_fails_alone(pool: DecodePool, act: Act) -> None:
    before = lost(pool, "cpu")
    good = [asyncio.create_task(ask(pool, picture("red"))) for _ in range(4)]
    with pytest.raises(ImageError, match=r"took more than 0\.5 CPU seconds to decode: .*baseline JPEG"):
        await ask(pool, picture("red"), act("spin"))
    await asyncio.gather(*good)
    assert lost(pool, "cpu") == before + 1
    await ask(pool, picture("red"))


@in_module
async def test_a_jpeg_of_endless_scans_is_ended_inside_the_native_decoder(pool: DecodePool) -> None:
    with pytest.raises(ImageError, match="CPU seconds"):
        await ask(pool, progressive_jpeg(20_000, (1500, 1500)))


@in_module
async def test_a_stopped_decoder_is_killed_when_its_time_is_over(hasty: DecodePool, act: Act) -> None:
    with pytest.raises(ImageError, match="took more than 1 seconds to decode"):
        await ask(hasty, picture("red"), act("stop"))
    assert lost(hasty, "time") == 1


@in_module
async def test_a_decoder_that_was_stopped_before_its_work_is_killed(hasty: DecodePool) -> None:
    for decoder in decoders(hasty):
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)
    large = encoded(Image.effect_noise((1500, 1500), 90))  # more than the socket holds
    with pytest.raises(ImageError, match="seconds to decode"):
        await ask(hasty, large)


@pytest.mark.skipif(sys.platform != "linux", reason="no limit on address space")
@in_module
async def test_a_picture_over_the_limit_on_memory_fails_alone(pool: DecodePool, act: Act) -> None:
    with pytest.raises(ImageError, match="takes more than 300 MiB to decode: shrink the image"):
        await ask(pool, picture("red"), act("allocate"))
    with pytest.raises(ImageError, match="takes more than 300 MiB"):
        await ask(pool, encoded(Image.new("RGBA", (7000, 7000))))
    assert lost(pool, "memory") == 2
    await ask(pool, picture("red"))


@in_module
async def test_a_caller_who_leaves_frees_decoder_and_memory(
    pool: DecodePool, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.05)
    preprocessing = act("stop")
    task = asyncio.create_task(ask(pool, picture("red"), preprocessing))
    await lives_end(preprocessing)
    task.cancel()
    await ask(pool, picture("red"))
    async with asyncio.timeout(PATIENCE_S):
        while pool.arena.free_bytes < LEAST_BYTES:
            await asyncio.sleep(0.01)
    assert lost(pool, "abandoned") == 1


@in_module
async def test_a_decoder_that_sends_no_reply_but_something_else_is_replaced(
    pool: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, true = lost(pool, "crash"), unpacked
    bodies: list[bytes] = []

    def first_is_strange(body: bytes) -> Reply:
        bodies.append(body)
        return true(b"[0]" if len(bodies) == 1 else body)

    monkeypatch.setattr(process, "unpacked", first_is_strange)
    await ask(pool, picture("red"))
    assert lost(pool, "crash") == before + 1


@in_module
async def test_nothing_is_left_after_a_stop_in_the_middle_of_work(act: Act) -> None:
    async def once() -> None:
        async with started(replace(SETTINGS, decode_cpu_s=600.0)) as pool:
            preprocessing = act("spin", 1)
            tasks = [asyncio.create_task(ask(pool, picture("red"), preprocessing)) for _ in range(3)]
            await lives_end(preprocessing)
            async with asyncio.timeout(PATIENCE_S):
                await pool.stop()
        await asyncio.wait(tasks)

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await once()
    before = descriptors(), len(multiprocessing.active_children())
    await once()
    assert (descriptors(), len(multiprocessing.active_children())) == before


@in_module
async def test_the_neighbours_of_an_endless_picture_in_a_request_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lives").write_text("0")
    monkeypatch.setenv("VLM_OOD_TEST_LIVES", str(tmp_path / "lives"))
    engine = LocalEngine(
        replace(SETTINGS, encoders=("fake",), device="cpu", deadline_s=60.0, decode_cpu_s=1.0, load=load_mortal)
    )
    await engine.start()
    try:
        endless = progressive_jpeg(20_000, (1500, 1500))
        answers = await engine.encode_images("fake", [picture("red"), endless, picture("blue"), b"", picture("green")])
        assert [type(answer) for answer in answers] == [
            EncodedImage,
            ImageError,
            EncodedImage,
            ImageError,
            EncodedImage,
        ]
        await engine.probe()
    finally:
        await engine.stop()


@in_module
async def test_four_endless_pictures_leave_time_for_the_last_one_of_their_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two decoders, with a CPU limit beyond the deadline."""
    (tmp_path / "lives").write_text("0")
    monkeypatch.setenv("VLM_OOD_TEST_LIVES", str(tmp_path / "lives"))
    engine = LocalEngine(
        replace(SETTINGS, encoders=("fake",), device="cpu", deadline_s=12.0, decode_cpu_s=600.0, load=load_mortal)
    )
    await engine.start()
    try:
        await engine.encode_images("fake", [picture("green")], deadline_s=PATIENCE_S)  # the worker is warm
        endless = progressive_jpeg(20_000, (1500, 1500))
        answers = await engine.encode_images("fake", [endless] * 4 + [picture("red")])
        assert [type(answer) for answer in answers] == [ImageError] * 4 + [EncodedImage]
        assert all("half of the time that its request had left" in str(answer) for answer in answers[:4])
    finally:
        await engine.stop()


ORPHANS = """
import asyncio, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from service.engine import EngineSettings
from service.engine.decoding.base import Picture
from service.engine.decoding.memory import PixelMemory
from service.engine.decoding.pool import DecodePool
from service.engine.metrics import EngineMetrics
from tests.service.engine.stand_ins import HostilePreprocessing, picture
from tests.service.engine.test_decoder_process import PREPROCESSING

async def main(lives):
    Path(lives).write_text("1")
    memory = PixelMemory(2**20)
    memory.open()
    settings = EngineSettings(decode_processes=2, decode_cpu_s=600.0)
    pool = DecodePool(settings, memory, EngineMetrics(CollectorRegistry()))
    await pool.start()
    good = Picture(picture("red"), PREPROCESSING)
    (await pool.pixels(good)).release()
    spin = HostilePreprocessing(**vars(PREPROCESSING), act="spin", lives=lives)
    task = asyncio.create_task(pool.pixels(Picture(picture("red"), spin)))
    while any(lane.decoder is None for lane in pool.lanes) or int(Path(lives).read_text()):
        await asyncio.sleep(0.01)
    print(*(lane.decoder.pid for lane in pool.lanes), flush=True)
    await task

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


def test_decoders_die_with_a_server_that_is_killed(tmp_path: Path) -> None:
    """The idle one, and the one that spins."""
    (tmp_path / "orphans.py").write_text(ORPHANS)
    command = [sys.executable, str(tmp_path / "orphans.py"), str(tmp_path / "lives")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        children = [int(pid) for pid in server.stdout.readline().split()]
        assert len(children) == 2
        server.kill()
    end = time.monotonic() + PATIENCE_S
    while any(map(running, children)):
        assert time.monotonic() < end
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
