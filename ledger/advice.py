"""What a person can do about a database's error, by the database's own word for it."""

from collections.abc import Mapping
from typing import Final

__all__ = ["advice"]

_DEFAULT: Final = "Check that the database of EXPUNGE_LEDGER_URL is up, writable and has space."
# The first part of the word that fits; longer ones stand above those that they begin with.
_ADVICE: Final[Mapping[str, str]] = {
    "SQLITE_BUSY": "Another process has held the write lock of the ledger's file for over 10 s: a "
    "backup, or a shell with an open transaction? It is retried by itself where workers ask.",
    "SQLITE_LOCKED": "Another process has locked the ledger's file; end it or wait.",
    "SQLITE_FULL": "The disk of the ledger is full: make room. Work goes on by itself then.",
    "SQLITE_IOERR_SHM": "There is no room for the file beside the ledger (`-shm`): make room on "
    "its disk. Work goes on by itself then.",
    "SQLITE_READONLY": "The ledger's file, its folder or the file system is read-only for this "
    "user: mount it writable, or give the user the right. Work goes on by itself then.",
    "SQLITE_CANTOPEN": "The ledger's file cannot be opened: it or its folder (EXPUNGE_LEDGER_URL) "
    "is missing or closed to this user, or the file system is read-only and takes no files "
    "(`-wal`, `-shm`) beside it.",
    "SQLITE_IOERR": "The disk of the ledger reports errors: look into the system's log.",
    "SQLITE_CORRUPT": "The ledger's file is damaged: stop the workers, and restore it.",
    "SQLITE_NOTADB": "The file of EXPUNGE_LEDGER_URL is no SQLite database.",
    "53": "The database server is out of space, memory or connections: see its log.",
    "57P03": "The database server is starting or stopping; it is retried by itself where workers "
    "ask.",
    "25006": "The database is read-only, perhaps a standby: let EXPUNGE_LEDGER_URL lead to the "
    "primary.",
    "28": "The database refuses user or password of EXPUNGE_LEDGER_URL.",
    "42501": "The database's role of EXPUNGE_LEDGER_URL lacks a right: see the server's log.",
}


def advice(cause: str | None) -> str:
    """Give one or two sentences.

    Args:
        cause: Such as `SQLITE_FULL` or `53100`; None when the database had no word for it.
    """
    for begin, words in _ADVICE.items():
        if cause is not None and cause.startswith(begin):
            return words
    return _DEFAULT
