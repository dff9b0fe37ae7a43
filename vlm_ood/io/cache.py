"""A folder of vectors on disk: addressed by content, bounded in size."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path
from torch import Tensor

from vlm_ood.errors import StorageError
from vlm_ood.io.files import read_tensors, write_tensors


def cache_folder() -> Path:
    """`$VLM_OOD_CACHE`, or the place this system keeps caches in."""
    return Path(os.environ.get("VLM_OOD_CACHE") or user_cache_path("vlm-ood"))


@dataclass(frozen=True)
class DiskCache:
    """Named tensors under a digest; the least recently used entries go when the folder outgrows its bound.

    Reading and writing never fail a caller: a damaged entry is dropped and counts as absent, and a full disk means
    that nothing is kept.

    Args:
        folder: made at the first write.
        max_bytes: of all entries together.
    """

    folder: Path
    max_bytes: int = 2 * 2**30

    def get(self, digest: str) -> dict[str, Tensor] | None:
        """The tensors stored under the digest, or None."""
        path = self._path(digest)
        try:
            tensors = read_tensors(path)[0]
            os.utime(path)
        except FileNotFoundError:
            return None
        except (StorageError, OSError):
            path.unlink(missing_ok=True)
            return None
        return tensors

    def put(self, digest: str, tensors: Mapping[str, Tensor]) -> bool:
        """Store the tensors; False when the disk has no room."""
        try:
            write_tensors(self._path(digest), tensors)
            self._evict()
        except (StorageError, OSError):
            return False
        return True

    def made(
        self, digest: str, make: Callable[[], Mapping[str, Tensor]], fits: Callable[[Mapping[str, Tensor]], bool]
    ) -> Mapping[str, Tensor]:
        """The tensors stored under the digest, or else those of `make`, which are stored.

        Args:
            digest: of everything that the tensors depend on.
            make: called when there are none or when those that are stored do not fit.
            fits: whether stored tensors are what the digest stands for: a file may be damaged.
        """
        kept = self.get(digest)
        if kept is not None and fits(kept):
            return kept
        tensors = make()
        self.put(digest, tensors)
        return tensors

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"

    def _evict(self) -> None:
        entries = sorted(
            ((path, path.stat()) for path in self.folder.glob("*.safetensors")),
            key=lambda entry: entry[1].st_mtime_ns,
        )
        total = sum(stat.st_size for _, stat in entries)
        for path, stat in entries[:-1]:
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


def bank_cache() -> DiskCache:
    """Where text banks are kept."""
    return DiskCache(cache_folder() / "banks")
