"""A server of a benchmark's own: its process, whether it is ready, and the memory of all its processes."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
READY_S = 300.0
STOP_S = 60.0
PAGE_MIB = resource.getpagesize() / 2**20


@dataclass
class Server:
    """A server process on a free port of loopback.

    Args:
        encoder: what it serves.
        data: its data folder.
        settings: further `VLM_OOD_*` variables.
        tree: the folder whose `service` is run; another version of the project, say.
        files: how many files it may have open.
        log: where its log goes; by default to this process's standard error.
    """

    encoder: str
    data: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    tree: Path = ROOT
    files: int | None = None
    log: Path | None = None
    started: Callable[[int], None] = field(default=lambda pid: None)  # told the process's id at each further start
    port: int = field(init=False)
    process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start_again(self) -> None:
        """Start it on the same port and data, after it has ended."""
        self._start()
        self.started(self.process.pid)

    def _start(self) -> None:
        environment = environment_of(self.tree) | {
            "VLM_OOD_DATA": str(self.data),
            "VLM_OOD_PORT": str(self.port),
            "VLM_OOD_ENCODERS": self.encoder,
            "VLM_OOD_LOG_LEVEL": "error",
            **self.settings,
        }
        command = [sys.executable, "-m", "service"]
        if self.files is not None:
            command = ["prlimit", f"--nofile={self.files}", *command]
        with self.log.open("ab") if self.log else nullcontext() as log:
            self.process = subprocess.Popen(command, env=environment, cwd=self.tree, stderr=log)

    def stop(self) -> None:
        """End it by SIGTERM, or by SIGKILL with all below it when that takes more than a minute."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and all below it by SIGKILL."""
        for pid in (self.process.pid, *below(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def server(encoder: str, **settings: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address and process of a server that benchmarks measure, stopped by SIGTERM."""
    with tempfile.TemporaryDirectory() as data:
        started = Server(encoder, Path(data), {"VLM_OOD_DEADLINE_S": "60", **settings})
        try:
            yield started.url, started.process
        finally:
            started.stop()


def environment_of(tree: Path) -> dict[str, str]:
    """Variables with which Python imports the project from this folder."""
    return dict(os.environ) | {"PYTHONPATH": str(tree)}


def own_address() -> str:
    """The address of this machine in its network; another one of loopback when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
        try:
            unsent.connect(("192.0.2.1", 9))  # sends nothing: it asks which address would be used
        except OSError:
            return "127.0.0.66"
        return str(unsent.getsockname()[0])


async def ready(url: str) -> None:
    """Return when the server proves that it is.

    Raises:
        TimeoutError: it doesn't within five minutes.
    """
    async with asyncio.timeout(READY_S), httpx.AsyncClient(base_url=url, timeout=30) as client:
        while True:
            with suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.5)


def below(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have (Linux)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *below(int(child))]
    return found


def resident_of(pid: int) -> float:
    """MiB of one process; 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MIB
    except (OSError, IndexError):
        return 0.0


def resident_mib(pid: int) -> tuple[float, float]:
    """Of the process, and of all below it."""
    return resident_of(pid), sum(map(resident_of, below(pid)))
