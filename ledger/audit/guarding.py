"""Does the database keep this process from changing the record? Found out by trying.

Each change is tried on the tables themselves inside a transaction that is always rolled back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ledger.engine import Database
from ledger.grants import RECORD

__all__ = ["Guard", "look_at_guard"]

_NO_RIGHT: Final = "42501"
_TRIGGERS: Final = {
    "sqlite": text("SELECT name FROM sqlite_master WHERE type = 'trigger'"),
    "postgresql": text(
        "SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')"
        " AND c.relnamespace = current_schema()::regnamespace"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What keeps the record as it is.

    Attributes:
        allowed: Statements that this role has the right to, such as `UPDATE event`; PostgreSQL.
        missing: Triggers that are not there, or switched off.
    """

    allowed: Sequence[str]
    missing: Sequence[str]


def look_at_guard(database: Database) -> Guard:
    """Try to change the record, and look whether its triggers are there; leaves no trace.

    Raises:
        LedgerError: The database does not answer.
    """
    found = database.read(
        lambda conn: set(conn.execute(_TRIGGERS[conn.dialect.name]).scalars().all())
    )
    expected = _expected(sqlite=database.is_sqlite)
    allowed = [] if database.is_sqlite else _allowed(database)
    return Guard(allowed=allowed, missing=sorted(expected - found))


def _expected(*, sqlite: bool) -> set[str]:
    queue = {"event_unsealed", "unsealed_no_update", "unsealed_no_delete"}
    if sqlite:
        queue.add("unsealed_no_replace")
        ways = ("no_update", "no_delete", "no_replace")
        return queue | {f"{table}_{way}" for table in RECORD for way in ways}
    queue |= {"unsealed_no_truncate", "event_body_no_delete"}
    return queue | {f"{table}_{way}" for table in RECORD for way in ("no_change", "no_truncate")}


def _allowed(database: Database) -> list[str]:
    column = {"event_body": "event", "checkpoint": "note", "origin": "name", "pruning": "event"}
    tries = []
    for table in RECORD:
        of = column.get(table, "hash" if table in ("leaf", "subtree") else "type")
        # No row matches, yet PostgreSQL asks for the right to it.
        tries.append((f"UPDATE {table}", f"UPDATE {table} SET {of} = {of} WHERE false"))  # noqa: S608 - names of ours
        tries.append((f"DELETE {table}", f"DELETE FROM {table} WHERE false"))  # noqa: S608 - as above
    return database.read(lambda conn: [what for what, statement in tries if _may(conn, statement)])


def _may(conn: Connection, statement: str) -> bool:
    attempt = conn.begin_nested()
    try:
        conn.execute(text(statement))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NO_RIGHT:
            raise
        return False
    finally:
        attempt.rollback()
    return True
