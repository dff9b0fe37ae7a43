"""A disk cache of tensors: entries are addressed by a digest, and their total size is bounded."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path
from torch import Tensor

from vlm_ood.digests import digest_of
from vlm_ood.errors import StorageError
from vlm_ood.io.files import PARTIAL, read_tensors, write_tensors

ABANDONED_S: Final = 3600.0  # age of a partial file whose writer has died: none is written for so long

_warned: Final[set[Path]] = set()  # folders, so that a full disk is one line in the log and not one per request


def cache_folder() -> Path:
    """Return the folder of all caches: `$VLM_OOD_CACHE`, or else the user's cache folder on this system."""
    return Path(os.environ.get("VLM_OOD_CACHE") or user_cache_path("vlm-ood"))


@dataclass(frozen=True)
class DiskCache:
    """Stores named tensors under a digest; the least recently used entries are deleted when it is full.

    Reading and writing raise no storage errors: a damaged entry is deleted and counts as absent, and when the disk
    is full or read-only nothing is stored, which is logged once per folder.

    Args:
        folder: where the entries are; created at the first write.
        max_bytes: bound on the size of all entries together, whoever owns them.
        owner: whose entries are seen; those of other owners count as absent.
    """

    folder: Path
    max_bytes: int = 2 * 2**30
    owner: str = ""

    def get(self, digest: str) -> dict[str, Tensor] | None:
        """Return the tensors that are stored under the digest, or None."""
        path = self._path(digest)
        try:
            tensors = read_tensors(path)[0]
        except FileNotFoundError:
            return None
        except (StorageError, OSError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # a folder that is read-only, or an entry that another process just deleted
            os.utime(path)
        return tensors

    def put(self, digest: str, tensors: Mapping[str, Tensor]) -> bool:
        """Store the tensors; return False when they can't be written."""
        try:
            write_tensors(self._path(digest), tensors)
            self._evict()
        except (StorageError, OSError) as error:
            _warn(self.folder, error)
            return False
        return True

    def made(
        self, digest: str, make: Callable[[], Mapping[str, Tensor]], fits: Callable[[Mapping[str, Tensor]], bool]
    ) -> Mapping[str, Tensor]:
        """Return the tensors that are stored under the digest, or else make and store them.

        Args:
            digest: digest of everything that the tensors depend on.
            make: called when nothing is stored or when `fits` refuses it.
            fits: whether stored tensors have the expected names and shapes; a file may be damaged.
        """
        kept = self.get(digest)
        if kept is not None and fits(kept):
            return kept
        tensors = make()
        self.put(digest, tensors)
        return tensors

    def _path(self, digest: str) -> Path:
        name = digest_of(self.owner, digest) if self.owner else digest
        return self.folder / f"{name}.safetensors"

    def _evict(self) -> None:
        """Delete what is over the bound, oldest first, and what a writer that was killed has left."""
        for path, stat in _stats(self.folder.glob(f"{PARTIAL}*")):
            if time.time() - stat.st_mtime > ABANDONED_S:
                path.unlink(missing_ok=True)
        entries = sorted(_stats(self.folder.glob("*.safetensors")), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(stat.st_size for _, stat in entries)
        for path, stat in entries[:-1]:
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


def _stats(paths: Iterable[Path]) -> list[tuple[Path, os.stat_result]]:
    """The files with what the system knows of them, without those that another process deletes meanwhile."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


def _warn(folder: Path, error: Exception) -> None:
    if folder not in _warned:
        _warned.add(folder)
        logging.getLogger(__name__).warning("nothing is cached in %s: %s", folder, error)


def bank_cache() -> DiskCache:
    """Return the disk cache of text banks."""
    return DiskCache(cache_folder() / "banks")
