"""Blobs: files written once under names that are never used again, and deleted when no row refers to them any more.

A row and its file can't change in one step, so `unreferenced_blobs` lists the blobs that no row refers to. A blob is in
the list before its file is written. It leaves the list in the transaction in which a row begins to refer to it, and
enters it again in the transaction in which the row ceases to. Whenever a process dies, the list is right.
"""

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import String, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from service.errors import BusyError
from service.storage.base import Base
from service.storage.database import Database
from service.storage.failures import file_error
from vlm_ood.errors import StorageError

GRACE_S: Final = 3600.0  # far longer than any request takes from reading a row to reading its file


class UnreferencedBlob(Base):
    """A blob to which no row refers: not yet, or no more."""

    __tablename__ = "unreferenced_blobs"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    since: Mapped[datetime]


@dataclass(frozen=True)
class Blobs:
    """The files of all kinds, and the list of those to be deleted. Exactly one row refers to a blob at any time.

    Args:
        database: of the list and of the rows that refer to blobs.
        folder: of the files; every process with this database must see the same one.
        grace_s: how long a blob is kept after the last row ceased to refer to it, for requests that read that row.
        now: the time of day, which all processes of the database share.
        clock: seconds that never jump: whatever the time of day does, this process deletes nothing before the grace
            time of what it has itself listed is over.
    """

    database: Database
    folder: Path
    grace_s: float = GRACE_S
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    _listed: dict[str, float] = field(default_factory=dict, init=False, compare=False)

    async def write(self, kind: str, content: bytes) -> str:
        """Store the content; the name of the new blob, which is on disk when this returns.

        A row must `refer` to it within the grace time.

        Raises:
            StorageError: the disk is full or can't be written.
        """
        return await self.database.in_thread(lambda: self._write(kind, content))

    async def read(self, name: str) -> bytes:
        """The content of a blob.

        Raises:
            StorageError: the file is missing or can't be read.
        """
        return await self.database.in_thread(lambda: self.content(name))

    def content(self, name: str) -> bytes:
        """What `read` gives, for work that is in a thread already."""
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise StorageError(f"{name} can't be read: {error.strerror}; restore a backup or make it again") from error

    def refer(self, session: Session, name: str) -> None:
        """To be called in the transaction in which a row begins to refer to the blob.

        Raises:
            StorageError: the grace time is over and the blob was deleted.
        """
        self._listed.pop(name, None)
        if not _unlisted(session, name) or not (self.folder / name).is_file():
            raise StorageError(f"{name} waited too long to be used and was deleted: try again")

    def release(self, session: Session, name: str) -> None:
        """To be called in the transaction in which the row ceases to refer to the blob; starts its grace time."""
        session.add(UnreferencedBlob(name=name, since=self.now()))
        self._listed[name] = self.clock()

    async def sweep(self) -> None:
        """Delete the blobs whose grace time is over; those that can't be deleted now are left to the next sweep."""
        await self.database.in_thread(self._sweep)

    def _write(self, kind: str, content: bytes) -> str:
        name = f"{kind}/{secrets.token_hex(16)}"
        self.database.now(lambda session: self.release(session, name))
        path = self.folder / name
        try:
            _write_through(path, content)
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise file_error(error, path) from error
        return name

    def _sweep(self) -> None:
        try:
            for name in self.database.now(self._due):
                self.database.now(partial(self._delete, name))
        except (OSError, StorageError, BusyError) as error:
            structlog.get_logger("vlm_ood").warning("unreferenced blobs can't be deleted now", error=str(error))

    def _due(self, session: Session) -> list[str]:
        """The blobs whose grace time is over; it begins now for those listed in the future: the clock was set back."""
        now, seconds = self.now(), self.clock()
        for name, since in list(self._listed.items()):
            if seconds - since >= self.grace_s:
                self._listed.pop(name, None)
        session.execute(update(UnreferencedBlob).where(UnreferencedBlob.since > now).values(since=now))
        until = now - timedelta(seconds=self.grace_s)
        names = session.scalars(select(UnreferencedBlob.name).where(UnreferencedBlob.since <= until))
        return [name for name in names if name not in self._listed]

    def _delete(self, name: str, session: Session) -> None:
        """The list's entry is locked first, so that no row can refer to the blob while its file is deleted."""
        if _unlisted(session, name):
            (self.folder / name).unlink(missing_ok=True)


def _unlisted(session: Session, name: str) -> bool:
    """Whether the blob was in the list, from which it is taken; locked until the transaction ends."""
    return session.connection().execute(delete(UnreferencedBlob).where(UnreferencedBlob.name == name)).rowcount == 1


def _write_through(path: Path, content: bytes) -> None:
    """Write a new file that survives a power cut once this returns; its folder and the folder above too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    for folder in (path.parent, path.parent.parent):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
