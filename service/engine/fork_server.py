"""Fork servers of multiprocessing: processes that have imported what their children need, watched and replaced."""

import io
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver, popen_forkserver, reduction, spawn, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.process import BaseProcess
from typing import Any


class ForkServer:
    """It is started, and after its death started anew, by the start of a process from it.

    Args:
        server: of multiprocessing, which keeps its process to itself.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    @classmethod
    def of(cls, modules: Sequence[str]) -> "ForkServer":
        """One of its own, which imports these modules; those that aren't there it leaves out."""
        server = forkserver.ForkServer()
        server.set_forkserver_preload(list(modules))
        return cls(server)

    @property
    def pid(self) -> int | None:
        """The id of its process; None before the first start from it."""
        pid: int | None = self._server._forkserver_pid
        return pid

    def process(self, target: Callable[..., None], args: tuple[Any, ...], name: str) -> BaseProcess:
        """A process that is forked by it."""
        return _Forked(self, target=target, args=args, name=name, daemon=True)

    def launch(self, descriptors: list[int]) -> tuple[int, int]:
        """As `multiprocessing.forkserver.connect_to_new_process`."""
        status, data = self._server.connect_to_new_process(descriptors)
        return status, data

    def kill(self) -> None:
        """End it now; a start that waits for it fails with EOFError or OSError."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # a child that has ended keeps its id until it is started anew

    def end(self) -> None:
        """End it and free its resources; its children live on."""
        self.kill()
        self._server._stop()


class _Forked(BaseProcess):
    _start_method = "forkserver"

    def __init__(self, server: ForkServer, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._server = server

    def _Popen(self, process_obj: BaseProcess) -> "_Popen":  # noqa: N802 (of BaseProcess, called by its `start`)
        return _Popen(process_obj, self._server)

    def __getstate__(self) -> Mapping[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_server"}


class _Popen(popen_forkserver.Popen):
    """As its base, which knows one fork server alone, that of the module."""

    _fds: list[int]  # of the base

    def __init__(self, process_obj: BaseProcess, server: ForkServer) -> None:
        self._server = server
        super().__init__(process_obj)

    def _launch(self, process_obj: BaseProcess) -> None:
        data = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), data)
            reduction.dump(process_obj, data)
        finally:
            set_spawning_popen(None)
        self.sentinel, write_end = self._server.launch(self._fds)
        held = os.dup(write_end)  # its end tells the child that this process has ended
        self.finalizer = util.Finalize(self, _close, (held, self.sentinel))
        with open(write_end, "wb", closefd=True) as pipe:
            pipe.write(data.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
