from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest

from service.engine.decoding.arena import Block, PixelArena, held
from service.engine.decoding.memory import LEAST_BYTES, PixelMemory
from vlm_ood.errors import ImageError

QUARTER = (3, 256, 341)  # a little less than a quarter of the memory
ALL = (1, 1024, 1024)


@pytest.fixture
def arena() -> Iterator[PixelArena]:
    memory = PixelMemory(LEAST_BYTES)
    memory.open()
    yield PixelArena(memory)
    memory.close()


def allocated(arena: PixelArena, shape: tuple[int, ...]) -> Block:
    block = arena.allocate(shape)
    assert block is not None
    return block


def test_blocks_are_apart_and_join_when_they_are_free(arena: PixelArena) -> None:
    blocks = [allocated(arena, QUARTER) for _ in range(4)]
    for value, block in enumerate(blocks):
        block.pixels().fill_(value)
    assert all(block.pixels().eq(value).all() for value, block in enumerate(blocks))
    for row in (1, 3, 2, 0):
        blocks[row].release()
    assert arena.free_bytes == LEAST_BYTES
    (allocated(arena, ALL)).release()


def test_any_order_of_sizes_leaves_all_of_it_free(arena: PixelArena) -> None:
    random, blocks = Random(0), list[Block]()
    for _ in range(500):
        side = random.randrange(1, 90)
        if 3 * 90 * 90 * (len(blocks) + 1) < LEAST_BYTES // 2:
            blocks.append(allocated(arena, (3, side, side)))
            blocks[-1].pixels().fill_(7)
        else:
            blocks.pop(random.randrange(len(blocks))).release()
    spans = sorted((block.offset, block.offset + block.pixels().nbytes) for block in blocks)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    for block in blocks:
        block.release()
    assert arena._holes == [(0, LEAST_BYTES)]


def test_when_it_is_full_there_is_no_block_until_one_is_free(arena: PixelArena) -> None:
    freed: list[int] = []
    arena.on_free = lambda: freed.append(arena.free_bytes)
    block = allocated(arena, ALL)
    assert arena.allocate(QUARTER) is None
    assert not freed
    block.release()
    assert freed == [LEAST_BYTES]
    allocated(arena, QUARTER).release()


def test_an_image_larger_than_all_of_it_is_refused(arena: PixelArena) -> None:
    arena.require(ALL)
    with pytest.raises(ImageError, match=r"takes 3,145,728 bytes.* has 1,048,576.*VLM_OOD_PIXEL_BYTES"):
        arena.require((3, 1024, 1024))


def test_a_block_is_free_when_nobody_holds_it(arena: PixelArena) -> None:
    block = allocated(arena, ALL)
    with held([block]):
        block.release()
        assert arena.free_bytes == 0
    assert arena.free_bytes == LEAST_BYTES
    other = allocated(arena, ALL)
    with held([block]):  # its memory is another's
        pass
    assert arena.free_bytes == 0
    other.release()
