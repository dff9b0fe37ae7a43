"""Memory for pixels, without a name, which this process and its children map."""

import errno
import fcntl
import logging
import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from service.engine.errors import EngineError

LEAST_BYTES: Final = 2**20
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EDQUOT})

log = logging.getLogger(__name__)


class PixelMemory:
    """Memory of a fixed size; pickled on its way to a child process, it is the same memory there.

    `open` has the system allocate all of it, so that lack of memory is an error at the start and not a SIGBUS later. It
    lives as long as a process maps it, so that no death leaves it behind.

    Args:
        nbytes: how much to allocate.
    """

    def __init__(self, nbytes: int) -> None:
        self._wanted = nbytes
        self._descriptor: int | None = None
        self._map: mmap.mmap | None = None

    @property
    def nbytes(self) -> int:
        """The size; 0 when it isn't open."""
        return 0 if self._map is None else len(self._map)

    def open(self) -> None:
        """Allocate it, or the half, the quarter and so on when the system has less.

        Raises:
            EngineError: not even `LEAST_BYTES` are free.
        """
        nbytes = max(self._wanted, LEAST_BYTES)
        while True:
            try:
                self._use(_allocated(nbytes), nbytes)
                return
            except OSError as error:
                if error.errno not in NO_ROOM or nbytes // 2 < LEAST_BYTES:
                    raise EngineError(
                        f"{nbytes:,} bytes of shared memory for pixels can't be allocated ({error.strerror}): free "
                        "memory, or allow the server more"
                    ) from error
                log.warning("%d bytes for pixels can't be allocated (%s): trying half", nbytes, error.strerror)
                nbytes //= 2

    def close(self) -> None:
        """Give it up here; a second call does nothing. It is unmapped with the last tensor that looks into it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = self._map = None

    def view(self, offset: int, shape: tuple[int, ...]) -> UInt8[Tensor, "..."]:
        """What lies there, not copied."""
        if self._map is None:
            raise ValueError("the memory for pixels is not open")
        return torch.from_numpy(np.ndarray(shape, np.uint8, buffer=self._map, offset=offset))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._descriptor is None:
            raise ValueError("the memory for pixels is not open")
        return _attach, (reduction.DupFd(self._descriptor), self.nbytes)

    def _use(self, descriptor: int, nbytes: int) -> None:
        self._map = mmap.mmap(descriptor, nbytes)
        self._descriptor = descriptor


def _attach(descriptor: Any, nbytes: int) -> PixelMemory:
    """In a child process."""
    memory = PixelMemory(nbytes)
    memory._use(descriptor.detach(), nbytes)
    return memory


def _allocated(nbytes: int) -> int:
    descriptor = _anonymous_file()
    try:
        os.ftruncate(descriptor, nbytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, nbytes)
        _seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("vlm-ood-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _seal(descriptor: int) -> None:
    """No child can truncate it, after which a look at it would end this process."""
    if hasattr(os, "memfd_create"):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
