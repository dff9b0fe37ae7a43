"""What went wrong with a database, and what its operator can do about it."""

from typing import Final

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


def storage_error(error: DBAPIError, engine: Engine) -> VlmOodError:
    """The error that a caller sees: what can't be used, why, and the remedy."""
    code = getattr(error.orig, "sqlite_errorname", "").removeprefix("SQLITE_").partition("_")[0]
    if code in {"BUSY", "LOCKED"}:
        return BusyError("the database is being written by others: try again in a moment", RETRY_S)
    if code in REMEDIES:
        return StorageError(f"the database {engine.url.database}: {REMEDIES[code]} ({error.orig})")
    return StorageError(f"the database can't be used: {error.orig}; free some space or try again")
