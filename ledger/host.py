"""A SQLite ledger belongs to one host: to its locks, its shared memory and its clock.

On a network file system locks may hold on each host apart, and then two of them would write at the
same moment. So the file system is looked at, its locks are tried, and whoever finds another host's
mark on the ledger's clock while it runs leaves the file alone.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select, text

from ledger.engine import Database
from ledger.errors import LedgerError, OtherHostError
from ledger.schema import clock

__all__ = [
    "NETWORK",
    "file_of",
    "file_system_of",
    "own_now_ns",
    "require_local",
    "require_locks",
    "require_own_clock",
]

_MOUNTS: Final = Path("/proc/self/mounts")
# Shared by hosts; where locks and shared memory do not work as SQLite's WAL needs them.
NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre"}
    | {"fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.ceph"}
)
_SOURCE: Final = select(clock.c.source)
_TRY_S: Final = 20.0
# Another process, for within one SQLite does not ask the file system.
_TRY: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error.sqlite_errorname)
"""


def file_system_of(folder: Path, mounts: str) -> str:
    """Name the kind of file system that a folder is on, or "" when that cannot be told.

    Args:
        folder: Absolute.
        mounts: The text of `/proc/self/mounts`.
    """
    kind, longest = "", -1
    for line in mounts.splitlines():
        _, point, its_kind, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        if folder.is_relative_to(point or "?") and len(point) >= longest:
            kind, longest = its_kind, len(point)
    return kind


def require_local(database: Database) -> None:
    """Refuse a SQLite ledger on a file system that hosts share.

    Args:
        database: PostgreSQL is always fine.

    Raises:
        LedgerError: It lies where it must not; the message says what to do.
    """
    file = file_of(database)
    if file is None:
        return
    mounts = _MOUNTS.read_text() if _MOUNTS.exists() else ""
    kind = file_system_of(file.parent.resolve(), mounts)
    if kind in NETWORK:
        msg = (
            f"The ledger's folder is on a network file system ({kind}), where SQLite's locks do "
            "not hold; move it to a local disk, or use PostgreSQL (EXPUNGE_LEDGER_URL)."
        )
        raise LedgerError(msg, cause="network_file_system")


def require_locks(database: Database) -> None:
    """Refuse a SQLite ledger whose locks do not keep another process out.

    Starts a process, so it is for the start of a worker; takes some 50 ms.

    Raises:
        LedgerError: They do not; the message says what to do.
    """
    file = file_of(database)
    if file is not None and not database.write(lambda conn: _is_locked(conn, file)):
        msg = (
            "The ledger's file system does not keep two processes from writing at once; move the "
            "file to a local disk, or use PostgreSQL (EXPUNGE_LEDGER_URL)."
        )
        raise LedgerError(msg, cause="no_locks")


def file_of(database: Database) -> Path | None:
    """Give the file of a ledger on SQLite."""
    name = database.engine.url.database
    return Path(name).absolute() if database.is_sqlite and name is not None else None


def _is_locked(conn: Connection, file: Path) -> bool:
    """Say whether another process is kept out while this transaction holds the write lock."""
    conn.execute(text("SELECT 1"))  # the transaction begins with its first statement
    tried = subprocess.run(
        [sys.executable, "-S", "-c", _TRY, str(file)],
        capture_output=True,
        check=False,
        timeout=_TRY_S,
    )
    return tried.stdout.strip() == b"SQLITE_BUSY" or tried.returncode != 0


def require_own_clock(conn: Connection, database: Database) -> None:
    """Refuse to go on in a transaction when another host set its clock into the ledger meanwhile.

    A restart of this host cannot be the reason: this process would not have lived through it.

    Raises:
        OtherHostError: Somebody on another host uses the same SQLite file.
    """
    own = database.clock.source
    if not database.is_sqlite or database.followed != own:
        return
    if conn.execute(_SOURCE).scalar() != own:
        msg = (
            "Another host uses the same SQLite ledger, and leases and slots of two clocks would "
            "mix. Stop it there and start anew here, or use PostgreSQL (EXPUNGE_LEDGER_URL)."
        )
        raise OtherHostError(msg, cause="other_host")


def own_now_ns(conn: Connection, database: Database) -> int:
    """Read the ledger's clock, once it is sure that it is this host's.

    Raises:
        OtherHostError: As for `require_own_clock`.
    """
    require_own_clock(conn, database)
    return database.clock.now_ns(conn)
