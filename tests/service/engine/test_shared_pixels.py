from multiprocessing.shared_memory import SharedMemory

import pytest
import torch
from jaxtyping import UInt8
from torch import Tensor

from service.engine.worker.shared_pixels import SharedPixels


def noise(count: int, rows: int, columns: int) -> list[UInt8[Tensor, "3 h w"]]:
    return [torch.randint(0, 256, (3, rows, columns), dtype=torch.uint8) for _ in range(count)]


def test_batches_of_any_size_that_fits_arrive_as_they_were_written() -> None:
    here = SharedPixels.create(3 * 3 * 4 * 4)
    there = SharedPixels.attach(here.name)
    here.unlink()
    for images in (noise(3, 4, 4), noise(1, 12, 4), noise(48, 1, 1)):
        here.write(images)
        assert torch.equal(there.read((len(images), *images[0].shape)), torch.stack(images))
    here.close()
    there.close()


def test_the_name_is_free_while_the_memory_is_in_use() -> None:
    pixels = SharedPixels.create(12)
    pixels.unlink()
    pixels.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(pixels.name)
    pixels.write([torch.full((3, 2, 2), 7, dtype=torch.uint8)])
    assert int(pixels.read((1, 3, 2, 2)).sum()) == 7 * 12
    pixels.close()
