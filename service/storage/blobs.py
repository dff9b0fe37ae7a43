"""Calibration scores as files: written whole or not at all, named by owner and content."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from vlm_ood.digests import digest_of
from vlm_ood.errors import StorageError
from vlm_ood.io.files import write_bytes


@dataclass(frozen=True)
class Artefacts:
    """A folder of files that are never changed, only replaced by others."""

    folder: Path

    def put(self, owner: str, content: bytes) -> str:
        """Keep the content; the name to ask for it by.

        Raises:
            StorageError: no room.
        """
        name = digest_of(owner, content)
        write_bytes(self._path(name), content)
        return name

    def get(self, name: str) -> bytes:
        """The content.

        Raises:
            StorageError: it is gone or can't be read.
        """
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            raise StorageError(f"calibration {name[:12]} can't be read: {error.strerror}; make it again") from error

    def drop(self, name: str) -> None:
        """Forget it; no matter if it is gone already."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self.folder / name
