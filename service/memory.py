"""Settings of the process's memory: what is freed returns to the system, and what stays isn't searched for garbage."""

import contextlib
import ctypes
import gc
import sys
from typing import Final

ARENA_MAX: Final = -8  # numbers of glibc's malloc.h
MMAP_THRESHOLD: Final = -3
ARENAS: Final = 2
LARGE_BYTES: Final = 4 * 2**20


def give_memory_back() -> None:
    """Use two arenas instead of eight per core, and map large buffers on their own; without glibc do nothing.

    Bodies and pictures of very different sizes on many threads otherwise fragment an arena each: benchmarks/hostile.py
    with 10 000 requests took the server from 615 to 1044 MiB without this, and to 652 with it.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(ARENA_MAX, ARENAS)
        libc.mallopt(MMAP_THRESHOLD, LARGE_BYTES)


def keep_what_is_loaded() -> None:
    """Collect garbage, and never search what is left: modules, routes and models stay as long as the process.

    A full collection searches every object and so blocked the event loop for 0.3 s, whenever requests had made enough.
    """
    gc.collect()
    gc.freeze()
