import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from threading import Event, Thread

import pytest
import pytest_asyncio
import torch

from service.engine import EncodedImage
from service.engine.worker.decode import ByteBudget, DecodePool
from tests.fakes import FakeEncoder
from tests.service.engine.stand_ins import PATIENCE_S, picture
from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits, load_image
from vlm_ood.types import ImageFeatures

PREPROCESSING = FakeEncoder().preprocessing


def unknown(digest: str) -> None:
    """A cache that holds nothing."""


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DecodePool]:
    pool = DecodePool(2, 10_000, ImageLimits(max_bytes=10_000, max_pixels=1000))
    yield pool
    pool.stop()


async def test_the_pixels_are_those_of_the_encoder(pool: DecodePool) -> None:
    content = picture("red")
    decoded = await pool.decode(content, PREPROCESSING, unknown)
    assert isinstance(decoded.content, torch.Tensor)
    assert torch.equal(decoded.content, PREPROCESSING(load_image(content)))
    assert decoded.sha256 == sha256(content).hexdigest()


async def test_what_the_cache_knows_is_not_decoded(pool: DecodePool) -> None:
    known = EncodedImage(ImageFeatures(torch.ones(1, 4)))
    decoded = await pool.decode(b"no picture at all", PREPROCESSING, lambda digest: known)
    assert decoded.content is known


@pytest.mark.parametrize("content", [b"", b"no picture", picture("red")[:40], picture("red", side=40), b"x" * 20_000])
async def test_a_bad_file_is_the_error_of_that_file(pool: DecodePool, content: bytes) -> None:
    good = pool.decode(picture("red"), PREPROCESSING, unknown)
    bad = pool.decode(content, PREPROCESSING, unknown)
    results = await asyncio.gather(good, bad, return_exceptions=True)
    assert [isinstance(result, ImageError) for result in results] == [False, True]


def test_the_budget_bounds_what_is_held_at_once() -> None:
    budget, inside = ByteBudget(10), Event()

    def want(nbytes: int) -> None:
        with budget.hold(nbytes):
            inside.set()

    with budget.hold(6):
        thread = Thread(target=want, args=(5,))
        thread.start()
        assert not inside.wait(0.05)
    assert inside.wait(PATIENCE_S)
    thread.join()


def test_who_wants_more_than_there_is_goes_alone() -> None:
    budget = ByteBudget(10)
    with budget.hold(1000):
        pass
    with budget.hold(10):
        pass
