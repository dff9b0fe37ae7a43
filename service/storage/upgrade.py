"""Brings the tables to the revision of this program: one process at a time, all of it or nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, func, select, text

from vlm_ood.errors import StorageError

LOCK_TIMEOUT_S: Final = 60
ADVISORY_LOCK: Final = int.from_bytes(b"vlm-ood")  # of PostgreSQL: a number that other programs hardly choose


def upgrade(engine: Engine) -> None:
    """Make the tables of a new database, or upgrade those of an older program.

    Raises:
        StorageError: a newer program made them, or another process has been upgrading for `LOCK_TIMEOUT_S`.
        DBAPIError: the database can't be used; it is as it was before.
    """
    config = Config()
    config.set_main_option("script_location", "service.storage:migrations")
    script = ScriptDirectory.from_config(config)
    with _LOCKS[engine.dialect.name](engine) as connection:
        found, newest = MigrationContext.configure(connection).get_current_revision(), script.get_current_head()
        if found == newest:
            return
        if found is not None and found not in {each.revision for each in script.walk_revisions()}:
            raise StorageError(
                f"the database is of revision {found}, this program of {newest}: use the newer vlm-ood that upgraded "
                "it, or a backup from before the upgrade"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _sqlite(engine: Engine) -> Iterator[Connection]:
    """Hold a lock file: SQLite's own lock doesn't cover the switch to write-ahead logging on a new database."""
    with _locked(f"{engine.url.database}.lock"), engine.connect() as connection:
        # The driver begins no transaction before CREATE TABLE: it is set to begin none at all, and BEGIN is sent here.
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # closed at the end: the pool must not get a connection without foreign keys
        # Altering a table drops and makes it again, which must not delete the rows that refer to it.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
            raise StorageError("rows of the database refer to rows that don't exist: restore a backup")
        connection.exec_driver_sql("COMMIT")


def _locked(file: str) -> AbstractContextManager[object]:
    try:
        return FileLock(file).acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout:
        raise StorageError(
            f"another process has been upgrading the database for {LOCK_TIMEOUT_S} s: wait until it is done"
        ) from None
    except OSError as error:
        raise StorageError(f"{file} can't be written: {error.strerror}; set VLM_OOD_DATA") from error


@contextmanager
def _postgresql(engine: Engine) -> Iterator[Connection]:
    """Hold an advisory lock until the transaction ends."""
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
        connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        yield connection


_LOCKS: Final[dict[str, Callable[[Engine], AbstractContextManager[Connection]]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
}
