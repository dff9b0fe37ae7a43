"""What went wrong with the data folder: the log tells the operator where, the error tells the caller what to do."""

from typing import Final

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from service.errors import BusyError
from vlm_ood.errors import StorageError, VlmOodError

RETRY_S: Final = 1.0
REMEDIES: Final = {  # by the first word of SQLite's name of the error
    "FULL": "the disk is full: free some space",
    "READONLY": "it can't be written: make its folder writable, or set VLM_OOD_DATA to another",
    "CANTOPEN": "it can't be opened: make its folder writable, or set VLM_OOD_DATA to another",
    "IOERR": "its disk gives errors: free some space, or check the disk",
    "CORRUPT": "it is damaged: restore a backup",
    "NOTADB": "it is no database of SQLite: set VLM_OOD_DATA to another folder, or restore a backup",
}
TOLD: Final = {  # likewise, to callers, who must learn no path, host or setting
    "FULL": "the server's data folder is full: ask its operator to free some space, then send this again",
    "READONLY": "the server's data folder can't be written: ask its operator to make its folder writable",
    "CANTOPEN": "the server's database can't be opened: ask its operator to make its folder writable",
    "IOERR": "the server's disk gives errors: ask its operator to free some space or to check the disk",
    "CORRUPT": "the server's database is damaged: ask its operator to restore a backup",
    "NOTADB": "the server's database is damaged: ask its operator to restore a backup",
}

log = structlog.get_logger("vlm_ood.storage")


def operators_error(error: DBAPIError, engine: Engine) -> VlmOodError:
    """The error that ends a start: which database can't be used, why, and the remedy."""
    code = _code(error)
    if code in {"BUSY", "LOCKED"}:
        return BusyError("the database is being written by others: try again in a moment", RETRY_S)
    if code in REMEDIES:
        return StorageError(f"the database {engine.url.database}: {REMEDIES[code]} ({error.orig})")
    return StorageError(f"the database can't be used: {error.orig}; free some space or try again")


def callers_error(error: DBAPIError, engine: Engine) -> VlmOodError:
    """The error that a caller sees; the operator's is logged."""
    full = operators_error(error, engine)
    if isinstance(full, BusyError):
        return full
    log.error("the database can't be used", error=str(full))
    unknown = "the server's database can't be used: try again, or ask its operator, whose log has details"
    return StorageError(TOLD.get(_code(error), unknown))


def file_error(error: OSError, path: object) -> StorageError:
    """The error that a caller sees when a file of the data folder can't be written; the path is logged."""
    log.error("a file can't be written", path=str(path), error=str(error))
    return StorageError(
        f"the server's data folder can't be written ({error.strerror}): ask its operator to free some space, or make "
        "the folder writable"
    )


def _code(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlite_errorname", "").removeprefix("SQLITE_").partition("_")[0]
