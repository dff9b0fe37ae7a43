"""SQLite or PostgreSQL, in threads of its own, so that the event loop never waits for a disk."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.orm import Session, sessionmaker

from service.storage.failures import callers_error, operators_error
from service.storage.upgrade import upgrade
from service.threads import in_thread
from vlm_ood.errors import StorageError

T = TypeVar("T")


class Database:
    """Opens the database and brings its tables to this program's revision; several processes may do so at once.

    Args:
        url: of SQLAlchemy, such as sqlite:////data/vlm-ood.sqlite3 or postgresql+psycopg://user@host/name.
        threads: how many transactions at once.

    Raises:
        StorageError: it can't be opened, or a newer program made its tables.
    """

    def __init__(self, url: str, threads: int = 4) -> None:
        self._engine = _engine(url)
        try:
            upgrade(self._engine)
        except DBAPIError as error:
            self._engine.dispose()
            raise operators_error(error, self._engine) from error
        except BaseException:
            self._engine.dispose()
            raise
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="database")

    def now(self, work: Callable[[Session], T]) -> T:
        """The result of a transaction: all of it or nothing.

        Raises:
            StorageError: the disk is full or read-only, or the database can't be reached.
            BusyError: others have been writing for longer than a transaction waits.
            IntegrityError: another transaction stored the same thing first.
        """
        with self._storage_errors(), self._sessions.begin() as session:
            return work(session)

    async def run(self, work: Callable[[Session], T]) -> T:
        """The result of a transaction, without holding up the event loop; raises what `now` raises."""
        return await self.in_thread(lambda: self.now(work))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of anything else that waits for a disk, without holding up the event loop."""
        return await in_thread(self._threads, work)

    def close(self) -> None:
        """Wait for running transactions and close every connection."""
        self._threads.shutdown()
        self._engine.dispose()

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise callers_error(error, self._engine) from error


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise StorageError(f"the database URL can't be used: {error}") from error
    match engine.dialect.name:
        case "sqlite":
            _make_folder(engine.url.database)
            event.listen(engine, "connect", _configure_sqlite)
        case "postgresql":
            pass
        case other:
            raise StorageError(f"the database URL names {other}: give one of sqlite or postgresql+psycopg")
    return engine


def _make_folder(file: str | None) -> None:
    if not file or file == ":memory:":
        raise StorageError("the database URL names no file: give one, such as sqlite:////data/vlm-ood.sqlite3")
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{Path(file).parent} can't be made: {error.strerror}; set VLM_OOD_DATA") from error


def _configure_sqlite(connection: Any, _: object) -> None:
    """Readers don't wait for the writer, and a writer waits for its turn for up to five seconds."""
    cursor = connection.cursor()
    for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
