"""Decoders in threads of this process: the line, the memory, and who gets which error."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest
import pytest_asyncio
import torch
from prometheus_client import CollectorRegistry

from service.engine import Draining, EncodedImage, EngineSettings
from service.engine.decoding.arena import Block
from service.engine.decoding.base import Picture
from service.engine.decoding.memory import LEAST_BYTES, PixelMemory
from service.engine.decoding.pool import DecodePool
from service.engine.metrics import EngineMetrics
from tests.fakes import SIDE, FakeEncoder
from tests.service.engine.stand_ins import PATIENCE_S, Gate, GatedPreprocessing, picture
from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits, load_image
from vlm_ood.types import ImageFeatures

PREPROCESSING = FakeEncoder().preprocessing
SETTINGS = EngineSettings(
    workers="inline", decode_processes=2, pixel_bytes=LEAST_BYTES, image_limits=ImageLimits(10_000, 1000)
)


def unknown(digest: str) -> None:
    """A cache that holds nothing."""


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DecodePool]:
    memory = PixelMemory(SETTINGS.pixel_bytes)
    memory.open()
    pool = DecodePool(SETTINGS, memory, EngineMetrics(CollectorRegistry()))
    await pool.start()
    yield pool
    await pool.stop()
    memory.close()


def free_bytes(pool: DecodePool) -> int:
    return pool.arena.free_bytes


async def test_the_pixels_are_those_of_the_encoder(pool: DecodePool) -> None:
    content = picture("red")
    decoded = await pool.decode(content, PREPROCESSING, unknown)
    assert isinstance(decoded.content, Block)
    assert torch.equal(decoded.content.pixels(), PREPROCESSING(load_image(content)))
    assert decoded.sha256 == sha256(content).hexdigest()
    assert decoded.seconds > 0
    decoded.content.release()
    assert free_bytes(pool) == LEAST_BYTES


@pytest.mark.parametrize("nbytes", [20, 2**20])
async def test_what_the_cache_knows_is_not_decoded(pool: DecodePool, nbytes: int) -> None:
    known, content = EncodedImage(ImageFeatures(torch.ones(1, 4))), b"x" * nbytes
    digests: list[str] = []

    def look_up(digest: str) -> EncodedImage:
        digests.append(digest)
        return known

    decoded = await pool.decode(content, PREPROCESSING, look_up)
    assert decoded.content is known
    assert digests == [sha256(content).hexdigest()]


@pytest.mark.parametrize("content", [b"", b"no picture", picture("red")[:40], picture("red", side=40), b"x" * 20_000])
async def test_a_bad_file_is_the_error_of_that_file(pool: DecodePool, content: bytes) -> None:
    good = pool.decode(picture("red"), PREPROCESSING, unknown)
    bad = pool.decode(content, PREPROCESSING, unknown)
    results = await asyncio.gather(good, bad, return_exceptions=True)
    assert [isinstance(result, ImageError) for result in results] == [False, True]
    assert free_bytes(pool) == LEAST_BYTES - 3 * SIDE * SIDE


async def test_a_picture_waits_while_the_memory_is_full(pool: DecodePool) -> None:
    large = PREPROCESSING.at((512, 512))
    first = await pool.pixels(Picture(picture("red"), large))
    waiting = asyncio.create_task(pool.pixels(Picture(picture("red"), large)))
    _, pending = await asyncio.wait({waiting}, timeout=0.05)
    assert pending
    first.release()
    (await waiting).release()


async def test_a_picture_larger_than_the_memory_is_its_own_error(pool: DecodePool) -> None:
    huge = pool.pixels(Picture(picture("red"), PREPROCESSING.at((1024, 1024))))
    results = await asyncio.gather(huge, pool.pixels(Picture(picture("red"), PREPROCESSING)), return_exceptions=True)
    assert isinstance(results[0], ImageError)
    assert "VLM_OOD_PIXEL_BYTES" in str(results[0])
    assert isinstance(results[1], Block)


async def test_nothing_is_kept_for_callers_who_left(pool: DecodePool, gate: Gate) -> None:
    gate.close()
    gated = GatedPreprocessing(**vars(PREPROCESSING), gate=gate)
    begun = [asyncio.create_task(pool.pixels(Picture(picture("red"), gated))) for _ in range(2)]
    for _ in begun:
        await gate.entered()
    waiting = asyncio.create_task(pool.pixels(Picture(picture("red"), gated)))
    await asyncio.sleep(0)
    for task in (*begun, waiting):
        task.cancel()
    await asyncio.wait({*begun, waiting})
    gate.open()
    async with asyncio.timeout(PATIENCE_S):
        while free_bytes(pool) < LEAST_BYTES:
            await asyncio.sleep(0)
    (await pool.pixels(Picture(picture("red"), PREPROCESSING))).release()


async def test_a_stop_waits_for_nobody_and_tells_those_who_wait(pool: DecodePool, gate: Gate) -> None:
    gate.close()
    gated = GatedPreprocessing(**vars(PREPROCESSING), gate=gate)
    tasks = [asyncio.create_task(pool.pixels(Picture(picture("red"), gated))) for _ in range(3)]
    for _ in range(2):
        await gate.entered()
    await pool.stop()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Draining] * 3
    gate.open()


async def test_the_decoder_that_is_free_next_takes_the_picture_of_another_tenant(pool: DecodePool) -> None:
    gates = [Gate() for _ in range(4)]
    tasks = []
    for gate in gates:
        gate.close()
        slow = GatedPreprocessing(**vars(PREPROCESSING), gate=gate)
        tasks.append(asyncio.create_task(pool.pixels(Picture(picture("red"), slow, "many"))))
    await gates[0].entered()
    await gates[1].entered()
    small = asyncio.create_task(pool.pixels(Picture(picture("red"), PREPROCESSING, "one")))
    await asyncio.sleep(0)
    gates[0].open()
    try:
        async with asyncio.timeout(PATIENCE_S):
            (await small).release()
    finally:
        for gate in gates:
            gate.open()
    for block in await asyncio.gather(*tasks):
        block.release()
