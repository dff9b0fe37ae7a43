"""SQLite or PostgreSQL, in threads of its own, so that the event loop never waits for a disk."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.orm import Session, sessionmaker

from service.storage.base import VERSION, Base, SchemaVersion
from service.threads import in_thread
from vlm_ood.errors import StorageError

T = TypeVar("T")


class Database:
    """Opens the database and makes the tables when there are none.

    Args:
        url: of SQLAlchemy, such as sqlite:////data/vlm-ood.sqlite3 or postgresql+psycopg://user@host/name.
        threads: how many transactions at once.

    Raises:
        StorageError: it can't be opened, or holds tables of another version.
    """

    def __init__(self, url: str, threads: int = 4) -> None:
        try:
            self._engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
            if self._engine.dialect.name == "sqlite":
                _make_folder(url)
                event.listen(self._engine, "connect", _configure_sqlite)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StorageError(f"the database URL can't be used: {error}") from error
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="database")
        self.now(self._check_version)

    def now(self, work: Callable[[Session], T]) -> T:
        """The result of a transaction: all of it or nothing.

        Raises:
            StorageError: the database is full, locked or away.
            IntegrityError: another transaction stored the same thing first.
        """
        try:
            with self._sessions.begin() as session:
                return work(session)
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StorageError(f"the database can't be used: {error.orig}; free some room or try again") from error

    async def run(self, work: Callable[[Session], T]) -> T:
        """`now`, without holding the event loop up."""
        return await self.in_thread(lambda: self.now(work))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Anything else that waits for a disk."""
        return await in_thread(self._threads, work)

    def close(self) -> None:
        """Wait for what is running and give the connections back."""
        self._threads.shutdown()
        self._engine.dispose()

    def _check_version(self, session: Session) -> None:
        Base.metadata.create_all(session.connection())
        found = session.scalar(select(SchemaVersion.version))
        if found is None:
            session.add(SchemaVersion(version=VERSION))
        elif found != VERSION:
            remedy = (
                "use a newer vlm-ood" if found > VERSION else "move the old data folder away, or use an older vlm-ood"
            )
            raise StorageError(
                f"the database has tables of version {found}, this program of version {VERSION}: {remedy}"
            )


def _make_folder(url: str) -> None:
    file = make_url(url).database
    if not file or file == ":memory:":
        return
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{Path(file).parent} can't be made: {error.strerror}; set VLM_OOD_DATA") from error


def _configure_sqlite(connection: Any, _: object) -> None:
    """Readers don't wait for the writer, and the writer waits its turn."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
