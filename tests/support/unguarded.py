"""What whoever owns the database can do: change the record, its triggers put aside."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Connection, text

__all__ = ["tamper_file", "unguarded"]


@contextmanager
def unguarded(conn: Connection) -> Iterator[Connection]:
    """Put all triggers of the ledger aside until the end of the block; of one transaction."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SET LOCAL session_replication_role = replica"))
        yield conn
        conn.execute(text("SET LOCAL session_replication_role = origin"))
        return
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    triggers = conn.execute(query).all()
    for trigger in triggers:
        conn.exec_driver_sql(f"DROP TRIGGER {trigger.name}")
    yield conn
    for trigger in triggers:
        conn.exec_driver_sql(trigger.sql)


def tamper_file(path: str, statements: Sequence[str], values: Mapping[str, Any]) -> int:
    """Change a SQLite ledger with a program of one's own, which heeds no foreign key either.

    Gives how many rows the last statement changed.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        triggers = conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        found = triggers.fetchall()
        conn.execute("BEGIN IMMEDIATE")
        for name, _ in found:
            conn.execute(f"DROP TRIGGER {name}")
        changed = 0
        for statement in statements:
            changed = conn.execute(statement, dict(values)).rowcount
        for _, sql in found:
            conn.execute(sql)
        conn.execute("COMMIT")
    return changed
