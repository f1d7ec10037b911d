"""Transactions on SQLite and PostgreSQL, with the errors of both turned into ours.

SQLite: WAL, synchronous=FULL, and every writing transaction starts with BEGIN IMMEDIATE, because a
read transaction that turns into a write fails at once when somebody else wrote in between
(SQLITE_BUSY_SNAPSHOT, which no time-out waits for). PostgreSQL: READ COMMITTED; what must not
interleave is locked row by row.

What the database aborted (a deadlock, a broken connection) is run again, a few times. A COMMIT
whose answer was lost is settled first (`ledger.commits`), so that nothing is done twice. A disk
that fails under a COMMIT ends all writing of this process (`DiskError`).
"""

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from ledger.advice import advice
from ledger.clock import Clock, HostClock, PostgresClock
from ledger.commits import STEP, Fate, Step, settle
from ledger.errors import CommitUnknownError, DiskError, LedgerError, SettingsError
from ledger.patience import Patience

__all__ = ["CAREFUL", "Database", "MiscountError"]

CAREFUL: Final = "expunge_careful"
"""Execution option of a transaction that is run again because of a `MiscountError`."""

T = TypeVar("T")
_BUSY_MS: Final = 10_000
_TRIES: Final = 6
# serialization_failure, deadlock_detected, lock_not_available
_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})
# How long one transaction on PostgreSQL may keep still, and its COMMIT once more.
PATIENCE_S: Final = 20.0
# How long a broken connection is answered by another try: once more after one that kept still.
_AGAIN_FOR_S: Final = PATIENCE_S + 5.0
# The same for a connection that never came about: enough for one that was ended as it began.
_CONNECT_FOR_S: Final = 0.1
# How long to ask for the fate of a COMMIT while the database is away.
SETTLE_S: Final = 10.0
# So that a host that vanished in mid-transaction does not keep an account locked.
_IDLE_MS: Final = 60_000
# How long SQLite's writer rests between bulk transactions when nobody else writes, in times that
# it was held: enough for whoever begins to wait to be let in.
_REST_ALONE: Final = 0.5
# Whoever wrote in that time will write again.
_OTHERS_S: Final = 0.25
# A writer that nobody else holds is had in a quarter of a millisecond.
_AT_ONCE_S: Final = 0.0015
# Where a connection keeps what it last knew of the others' writes.
_VERSION: Final = "expunge_data_version"
# Not the disk's fault, but want of space for shared memory: those end by themselves.
_NO_CRASH: Final = "SQLITE_IOERR_SHM"


class MiscountError(Exception):
    """A count of a request is less than what was to be taken from it: somebody changed a row."""


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
                connect_args={"timeout": _BUSY_MS / 1000, "uri": True}
                if self.is_sqlite
                # A plan made while a table was small would be kept when it no longer is.
                else {"connect_timeout": 10, "prepare_threshold": None},
            )
        except (NoSuchModuleError, ImportError):
            msg = "The driver for PostgreSQL is not installed; install `expunge[postgres]`."
            raise SettingsError(msg) from None
        self.clock: Clock = HostClock() if self.is_sqlite else PostgresClock()
        self._patience: Patience | None = None
        if self.is_sqlite:
            event.listen(self.engine, "do_connect", _open_sqlite)
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", _set_up_postgres)
            self._patience = Patience(self.engine, seconds=PATIENCE_S)
        # True once the fate of some commit stayed unknown: what is recorded again may be there.
        self.doubtful = False
        # The clock that this process found or set in the ledger (`ledger.sweep.follow_clock`).
        self.followed: str | None = None
        self._failed: DiskError | None = None
        # When a transaction last ended, well or not (seconds of the monotonic clock): whoever does
        # much in many of them is at work, however long it takes.
        self.turned = time.monotonic()
        self._bulk = threading.Lock()
        # When the last bulk let go of SQLite's writer, how long it held it, when others were last
        # seen to write beside it, and whether that was just before.
        self._freed = self._held = 0.0
        self._others_at: float | None = None
        self._crowded = False
        # Share of the last bulks that found the writer taken.
        self._taken = 0.0

    def write(self, work: Callable[[Connection], T], *, patient: bool = False) -> T:
        """Run `work` in a writing transaction and commit; run it again when it was aborted.

        Args:
            work: Must be safe to run again from the start: it is when its writes are all in the
                transaction.
            patient: On PostgreSQL, wait however long it takes; for migrations.

        Raises:
            LedgerError: The database did not answer, is locked, full or read-only.
            CommitUnknownError: It was gone at the COMMIT and did not come back in time.
            DiskError: The disk failed; this process must end.
        """
        try:
            return self._run(work, immediate=True, patient=patient)
        except MiscountError:
            return self._run(work, immediate=True, patient=patient, careful=True)

    def write_bulk(self, work: Callable[[Connection], T], *, rest: float = 1.0) -> T:
        """Do as `write` does, for one of many transactions in a row.

        SQLite has one writer. The next such transaction of this process begins only when the writer
        was free for a while; what is done meanwhile, such as making the next rows, counts.

        Args:
            work: As for `write`.
            rest: For how many times as long as the last bulk held it, where others write beside us;
                up to four times that where most find it taken. Where nobody did, half as long is
                enough to let somebody in.

        Raises:
            LedgerError: The database did not answer, is locked, full or read-only.
        """
        if not self.is_sqlite:
            return self.write(work)
        asked = began = 0.0

        def timed(conn: Connection) -> T:
            nonlocal began
            began = time.monotonic()
            self._taken += ((began - asked > _AT_ONCE_S) - self._taken) / 4
            if _others_wrote(conn):
                self._others_at = began
            return work(conn)

        while True:
            with self._bulk:
                wait = self._rest_left(rest)
                if wait <= 0:
                    asked = time.monotonic()
                    try:
                        return self.write(timed)
                    finally:
                        self._freed = time.monotonic()
                        self._held = self._freed - began if began else 0.0
                        last = self._others_at
                        self._crowded = last is not None and self._freed - last < _OTHERS_S
            # Not under the lock: others of this process may have to wait less.
            time.sleep(wait)
            # Whoever rested takes its turn among the others, or many small ones would starve it.
            rest = min(rest, 1.0)

    def _rest_left(self, rest: float) -> float:
        times = rest * (1 + 3 * self._taken) if self._crowded else _REST_ALONE
        return self._freed + self._held * times - time.monotonic()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction that writes nothing.

        Raises:
            LedgerError: The database did not answer.
        """
        return self._run(work, immediate=False)

    def read_long(self, work: Callable[[Connection], T]) -> T:
        """Do as `read` does, for a walk of many statements that may take minutes.

        On PostgreSQL each of them, and what is done between two, may take as long as otherwise the
        whole transaction.

        Raises:
            LedgerError: The database did not answer, or kept still for too long.
        """
        patience = self._patience
        if patience is None:
            return self.read(work)

        def walk(conn: Connection) -> T:
            def go_on(*_told: object) -> None:
                patience.extend(conn)

            for moment in ("before_cursor_execute", "after_cursor_execute"):
                event.listen(conn, moment, go_on)
            return work(conn)

        return self.read(walk)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()
        if self._patience is not None:
            self._patience.close()

    # -- one transaction --------------------------------------------------------------------------

    def _run(
        self,
        work: Callable[[Connection], T],
        *,
        immediate: bool,
        patient: bool = False,
        careful: bool = False,
    ) -> T:
        if immediate and self._failed is not None:
            raise DiskError(*self._failed.args, cause=self._failed.cause)
        started = time.monotonic()
        for left in range(_TRIES, 0, -1):
            step: Step[T] = Step()
            try:
                return self._once(work, step, immediate=immediate, patient=patient, careful=careful)
            except DBAPIError as error:
                if self._is_committed(step, error):
                    return step.result
                again = left > 1 and _was_aborted(step, error, started)
                if not again:
                    raise self._translated(error, step, immediate=immediate) from None
                time.sleep(random.uniform(0, 0.05))  # noqa: S311 - spreads retries only
            except SQLAlchemyError as error:
                raise _translated(error) from None
            finally:
                self.turned = time.monotonic()
        raise AssertionError  # the last try returns or raises

    def _once(
        self,
        work: Callable[[Connection], T],
        step: Step[T],
        *,
        immediate: bool,
        patient: bool,
        careful: bool,
    ) -> T:
        with self.engine.connect() as conn:
            step.connected = True
            options = {"expunge_immediate": immediate, CAREFUL: careful, STEP: step}
            conn = conn.execution_options(**options)  # noqa: PLW2901
            with self._watch(conn, patient=patient), conn.begin():
                result = work(conn)
                step.seal(conn, result, numbered=immediate and not self.is_sqlite)
                if self._patience is not None and not patient:
                    self._patience.extend(conn)
        return result

    def _watch(self, conn: Connection, *, patient: bool) -> AbstractContextManager[None]:
        if self._patience is None:
            return nullcontext()
        return self._patience.watch(conn, patient=patient)

    def _is_committed(self, step: Step[T], error: DBAPIError) -> bool:
        """Settle a COMMIT whose answer was lost; False also when there was none to settle."""
        if self.is_sqlite or not (step.committing and _is_broken(error)):
            return False
        fate = settle(self.engine, step, patience_s=SETTLE_S)
        if fate is Fate.UNKNOWN:
            self.doubtful = True
            msg = (
                "The connection to the ledger broke at the very end, and its database does not "
                "answer: whether this is recorded is not known. Hand in again under the same "
                "idempotency key; without one, look with `expunge list` first."
            )
            raise CommitUnknownError(msg, cause="commit_unknown") from None
        return fate is Fate.COMMITTED

    def _translated(self, error: DBAPIError, step: Step[T], *, immediate: bool) -> LedgerError:
        name = getattr(error.orig, "sqlite_errorname", None) or ""
        at_fault = "FSYNC" in name or (step.committing and not name.startswith(_NO_CRASH))
        if immediate and name.startswith("SQLITE_IOERR") and at_fault:
            self.doubtful = True
            msg = (
                f"The disk failed while the ledger was written ({name}): what was being recorded "
                "may be there or not, which shows after a restart. This process writes nothing "
                "more; look after the disk, then start it anew."
            )
            self._failed = DiskError(msg, cause=name)
            return self._failed
        return _translated(error)


def _was_aborted(step: Step[T], error: DBAPIError, started: float) -> bool:
    """Say whether a transaction surely left nothing, and a further try makes sense."""
    if getattr(error.orig, "sqlstate", None) in _AGAIN:
        return True
    took_s = time.monotonic() - started
    if not step.connected:
        return not isinstance(error.orig, sqlite3.Error) and took_s < _CONNECT_FOR_S
    # At the COMMIT: `_is_committed` asked, and it was not.
    return _is_broken(error) and (took_s < _AGAIN_FOR_S or step.committing)


def _is_broken(error: DBAPIError) -> bool:
    """Say whether the connection broke, rather than the server said no.

    psycopg in the middle of a pipeline does not call itself closed; but only what the server says
    has a code.
    """
    silent = getattr(error.orig, "sqlstate", None) is None
    from_driver = isinstance(error, OperationalError) and not isinstance(error.orig, sqlite3.Error)
    return error.connection_invalidated or (from_driver and silent)


def _translated(error: SQLAlchemyError) -> LedgerError:
    cause = getattr(error, "orig", None) or error
    name = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    msg = (
        f"The ledger did not confirm ({type(cause).__name__}{f', {name}' if name else ''}); "
        f"nothing was half written and it is safe to try again. {advice(name)}"
    )
    return LedgerError(msg, cause=name)


def _others_wrote(conn: Connection) -> bool:
    """Say whether others wrote since this was asked last on the same connection (SQLite)."""
    version = conn.exec_driver_sql("PRAGMA data_version").scalar()
    before = conn.info.get(_VERSION)
    conn.info[_VERSION] = version
    return before not in (None, version)


def _set_up_postgres(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's
    connection.autocommit = True  # one way there and back, instead of three
    connection.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_MS}")
    connection.autocommit = False


def _open_sqlite(
    _dialect: object, _record: object, positions: list[Any], _names: dict[str, Any]
) -> None:
    # Only what is there: a mistyped path must not become an empty file for all to read.
    # `ledger.migrate` makes new ones.
    positions[0] = f"{Path(positions[0]).absolute().as_uri()}?mode=rw"


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
            mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(random.uniform(0, 0.02))  # noqa: S311 - spreads retries only
        else:
            break
    if mode != "wal":
        # Readers and the writer would lock each other out, and a crash would cost more.
        msg = (
            "The file system of the ledger has no shared memory for SQLite's WAL; move the file "
            "to a local disk, or use PostgreSQL (EXPUNGE_LEDGER_URL)."
        )
        raise LedgerError(msg, cause="no_wal")


def _begin_sqlite(conn: Connection) -> None:
    immediate = conn.get_execution_options().get("expunge_immediate", True)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
