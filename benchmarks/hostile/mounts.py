"""File systems that a phase needs: a small one, or one that cannot be written to."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.hostile.phases import SkippedError


@contextmanager
def small(folder: Path, mib: int) -> Iterator[None]:
    """A file system of so many MiB in a new folder.

    Raises:
        SkippedError: only root may mount one.
    """
    folder.mkdir(exist_ok=True)
    with _mounted(folder, ["-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]):
        yield


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """The folder is read-only for whoever opens a file in it.

    Raises:
        SkippedError: only root can do that.
    """
    with _mounted(folder, ["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]):
        yield


@contextmanager
def _mounted(folder: Path, *mounts: Sequence[str]) -> Iterator[None]:
    for options in mounts:
        done = subprocess.run(["mount", *options], capture_output=True)
        if done.returncode:
            raise SkippedError(f"only root may mount a file system at {folder}: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
