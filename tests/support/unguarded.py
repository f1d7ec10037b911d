"""What whoever owns the database can do: change the record, its triggers put aside."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

__all__ = ["unguarded"]


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
