"""A folder of vectors on disk: addressed by content, written whole or not at all, bounded in size."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vlm_ood.errors import StorageError


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


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        StorageError: with the path and the reason; an older file of that name is untouched.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(kept, dict(metadata or {})))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        StorageError: with the path and the reason; an older file of that name is untouched.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".partial-", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StorageError(
            f"{target} can't be written: {error.strerror or error}; free some room or choose another folder"
        ) from error


@cache
def _umask() -> int:
    """The process's own, which can only be read by setting it: done once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        FileNotFoundError: no such file.
        StorageError: not a safetensors file, or a damaged one.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise StorageError(f"{path} is not a readable safetensors file: {error}") from error
