from multiprocessing.shared_memory import SharedMemory

import pytest
import torch

from service.engine.worker.shared_pixels import SharedPixels


def test_a_batch_arrives_as_it_was_written() -> None:
    shape = (2, 3, 3, 4, 4)
    here = SharedPixels.create(shape)
    there = SharedPixels.attach(here.name, shape)
    here.unlink()
    images = [torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8) for _ in range(2)]
    here.write(1, images)
    assert torch.equal(there.read(1, 2), torch.stack(images))
    here.close()
    there.close()


def test_the_name_is_free_while_the_memory_is_in_use() -> None:
    pixels = SharedPixels.create((1, 1, 3, 2, 2))
    pixels.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(pixels.name)
    pixels.write(0, [torch.full((3, 2, 2), 7, dtype=torch.uint8)])
    assert int(pixels.read(0, 1).sum()) == 7 * 12
    pixels.close()
