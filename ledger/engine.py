"""Transactions on SQLite and PostgreSQL, with the errors of both turned into ours.

SQLite: WAL, synchronous=FULL, and every writing transaction starts with BEGIN IMMEDIATE, because a
read transaction that turns into a write fails at once when somebody else wrote in between
(SQLITE_BUSY_SNAPSHOT, which no time-out waits for). PostgreSQL: READ COMMITTED; what must not
interleave is locked row by row.
"""

import random
import sqlite3
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from ledger.clock import Clock, HostClock, PostgresClock
from ledger.errors import LedgerError, SettingsError

__all__ = ["Database"]

T = TypeVar("T")
_BUSY_MS: Final = 10_000
_TRIES: Final = 6
# serialization_failure, deadlock_detected, lock_not_available
_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})


class Database:
    """A ledger's database: runs functions inside transactions.

    Args:
        url: `sqlite:///path` or `postgresql://…` (psycopg 3).

    Raises:
        SettingsError: The URL is not one of the two.
    """

    def __init__(self, url: str) -> None:
        """Prepare the engine; the first transaction opens the connection."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            msg = (
                "EXPUNGE_LEDGER_URL is not a database URL; write `sqlite:///path/expunge.db` "
                "or `postgresql://user@host/name`."
            )
            raise SettingsError(msg) from None
        kind = parsed.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            msg = f"The ledger cannot live in {kind!r}; use sqlite or postgresql."
            raise SettingsError(msg)
        self.is_sqlite = kind == "sqlite"
        if not self.is_sqlite:
            parsed = parsed.set(drivername="postgresql+psycopg")
        try:
            self.engine: Engine = create_engine(
                parsed,
                hide_parameters=True,
                pool_pre_ping=not self.is_sqlite,
                connect_args={"timeout": _BUSY_MS / 1000}
                if self.is_sqlite
                # A plan made while a table was small would be kept when it no longer is.
                else {"connect_timeout": 10, "prepare_threshold": None},
            )
        except (NoSuchModuleError, ImportError):
            msg = "The driver for PostgreSQL is not installed; install `expunge[postgres]`."
            raise SettingsError(msg) from None
        self.clock: Clock = HostClock() if self.is_sqlite else PostgresClock()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a writing transaction and commit; run it again after a deadlock.

        `work` must be safe to run again from the start: it is when its writes are all in the
        transaction.

        Raises:
            LedgerError: The database did not answer, is locked, full or read-only.
        """
        return self._run(work, immediate=True)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction that writes nothing.

        Raises:
            LedgerError: The database did not answer.
        """
        return self._run(work, immediate=False)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _run(self, work: Callable[[Connection], T], *, immediate: bool) -> T:
        for left in range(_TRIES, 0, -1):
            try:
                with self.engine.connect() as conn:
                    conn = conn.execution_options(expunge_immediate=immediate)  # noqa: PLW2901
                    with conn.begin():
                        return work(conn)
            except DBAPIError as error:
                if left > 1 and getattr(error.orig, "sqlstate", None) in _AGAIN:
                    time.sleep(random.uniform(0, 0.05))  # noqa: S311 - spreads retries only
                    continue
                raise _translated(error) from None
            except SQLAlchemyError as error:
                raise _translated(error) from None
        raise AssertionError  # the last try returns or raises


def _translated(error: SQLAlchemyError) -> LedgerError:
    cause = getattr(error, "orig", None) or error
    name = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    msg = (
        f"The ledger did not confirm ({type(cause).__name__}{f', {name}' if name else ''}); "
        "nothing was half written and it is safe to try again. Check that the database of "
        "EXPUNGE_LEDGER_URL is up, writable and has space."
    )
    return LedgerError(msg)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions by itself, and later than BEGIN IMMEDIATE must.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        _switch_to_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")
    finally:
        cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    # Of a new file only: while another one switches it, SQLite is busy at once, and does not wait.
    give_up = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(random.uniform(0, 0.02))  # noqa: S311 - spreads retries only
        else:
            return


def _begin_sqlite(conn: Connection) -> None:
    immediate = conn.get_execution_options().get("expunge_immediate", True)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
