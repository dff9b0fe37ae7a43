"""What runs in a decoder process: files come over the socket, pixels go to shared memory, replies over the socket."""

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from multiprocessing import forkserver
from pathlib import Path
from typing import Final

import torch

from service.engine.decoding.base import DecodeLimits
from service.engine.decoding.memory import PixelMemory
from service.engine.decoding.protocol import Reply, Task, packed, read_request
from vlm_ood.errors import ImageError
from vlm_ood.images import load_image

MIB: Final = 2**20
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main(memory: PixelMemory, channel: socket.socket, limits: DecodeLimits) -> None:
    """Reply to requests until the engine closes the socket."""
    _isolate()
    torch.set_num_threads(1)
    stream = channel.makefile("rwb")
    with suppress(OSError):  # the engine is gone
        stream.write(packed(Reply()))  # it is ready
        stream.flush()
        while (request := read_request(stream)) is not None:  # type: ignore[arg-type]
            stream.write(packed(answer(*request, memory, limits)))
            stream.flush()


def answer(task: Task, content: bytes, memory: PixelMemory, limits: DecodeLimits) -> Reply:
    """Decode one file."""
    too_much = Reply(
        f"takes more than {limits.memory_bytes // MIB} MiB to decode: shrink the image, or save it as a baseline JPEG",
        out_of_memory=True,
    )
    try:
        with within(limits):
            memory.view(task.offset, task.shape).copy_(task.preprocessing(load_image(content, limits.image)))
    except ImageError as error:
        return too_much if isinstance(error.__cause__, MemoryError) else Reply(str(error))
    except MemoryError:
        return too_much
    except Exception as error:
        return Reply(f"can't be prepared: {error or type(error).__name__}")
    return Reply()


@contextmanager
def within(limits: DecodeLimits) -> Iterator[None]:
    """Set the limits for one picture: the system ends this process at the one on CPU time.

    The soft limits alone: a hard one could not be raised for the next picture.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _set_soft(resource.RLIMIT_CPU, ceil(usage.ru_utime + usage.ru_stime + limits.cpu_s))
    _set_soft(resource.RLIMIT_AS, _address_space() + limits.memory_bytes if sys.platform == "linux" else None)
    try:
        yield
    finally:
        _set_soft(resource.RLIMIT_AS, None)
        _set_soft(resource.RLIMIT_CPU, None)


def _set_soft(kind: int, value: int | None) -> None:
    _, hard = resource.getrlimit(kind)
    if value is None or (hard != resource.RLIM_INFINITY and value > hard):
        value = hard
    resource.setrlimit(kind, (value, hard))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _isolate() -> None:
    """The engine alone ends this process, by the socket or by SIGKILL; and this process ends with the engine.

    The fork server ends with the engine, and the system then kills its children. But it waits for children that hold
    the pipe by which it knows: they get it so that they could have children of their own.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        if (pipe := getattr(forkserver._forkserver, "_forkserver_alive_fd", None)) is not None:
            os.close(pipe)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):  # when memory runs out, this process goes before the server
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
