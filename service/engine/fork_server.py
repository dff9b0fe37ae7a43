"""A fork server of multiprocessing as a process that can be watched and killed."""

import os
import signal
from contextlib import suppress
from multiprocessing import forkserver


class ForkServer:
    """It is started, and after its death started anew, by the start of a process from it.

    Args:
        server: of multiprocessing, which keeps its process to itself.
    """

    def __init__(self, server: forkserver.ForkServer) -> None:
        self._server = server

    @property
    def pid(self) -> int | None:
        """The id of its process; None before the first start from it."""
        pid: int | None = getattr(self._server, "_forkserver_pid", None)
        return pid

    def kill(self) -> None:
        """End it now; a start that waits for it fails with EOFError or OSError."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # a child that has ended keeps its id until it is started anew
