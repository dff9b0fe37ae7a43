import errno
import os
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from service.engine.decoding.memory import LEAST_BYTES, PixelMemory
from service.engine.errors import EngineError

SHAPE = (3, 2, 4)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def write_seven(memory: PixelMemory, connection: Connection) -> None:
    """In a child process."""
    memory.view(64, SHAPE).fill_(7)
    connection.send(memory.nbytes)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_process_writes_to_the_same_memory(method: str) -> None:
    context = get_context(method)
    memory = PixelMemory(LEAST_BYTES)
    memory.open()
    ours, theirs = context.Pipe()
    process = context.Process(target=write_seven, args=(memory, theirs))  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    assert ours.recv() == LEAST_BYTES
    process.join()
    assert memory.view(64, SHAPE).eq(7).all()
    assert memory.view(0, (64,)).eq(0).all()
    memory.close()
    ours.close()
    process.close()


def test_a_tensor_outlives_the_memory_that_it_looks_into() -> None:
    memory = PixelMemory(LEAST_BYTES)
    memory.open()
    pixels = memory.view(0, SHAPE)
    memory.close()
    assert pixels.fill_(7).eq(7).all()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system can't allocate ahead")
def test_all_of_it_is_allocated_at_once() -> None:
    memory = PixelMemory(3 * LEAST_BYTES)
    memory.open()
    assert memory._descriptor is not None
    assert os.fstat(memory._descriptor).st_blocks * 512 >= 3 * LEAST_BYTES
    with pytest.raises(PermissionError):
        os.ftruncate(memory._descriptor, 0)  # a decoder that could would end the server with SIGBUS
    memory.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_where_memory_is_short_there_is_less_of_it(
    code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def allocate(descriptor: int, offset: int, nbytes: int) -> None:
        if nbytes > 2 * LEAST_BYTES:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    before = descriptors()
    memory = PixelMemory(8 * LEAST_BYTES)
    memory.open()
    assert memory.nbytes == 2 * LEAST_BYTES
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    memory.close()
    assert descriptors() == before


def test_without_any_memory_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(descriptor: int, offset: int, nbytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    before = descriptors()
    with pytest.raises(EngineError, match=r"1,048,576 bytes of shared memory for pixels can't be allocated.*No space"):
        PixelMemory(8 * LEAST_BYTES).open()
    assert descriptors() == before


def test_a_system_without_anonymous_memory_takes_an_unlinked_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    before = descriptors()
    memory = PixelMemory(LEAST_BYTES)
    memory.open()
    memory.view(0, SHAPE).fill_(3)
    assert memory._descriptor is not None
    assert os.fstat(memory._descriptor).st_nlink == 0
    memory.close()
    memory.close()
    assert descriptors() == before
    with pytest.raises(ValueError, match="not open"):
        memory.view(0, SHAPE)
