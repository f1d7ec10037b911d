"""INSERT … ON CONFLICT DO NOTHING on both databases: the first of several writers wins."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert_missing"]


def insert_missing(conn: Connection, table: Table, **values: Any) -> bool:  # noqa: ANN401 - columns
    """Insert a row unless its key is taken; says whether it was inserted."""
    insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    # Without the option psycopg's count of an INSERT is thrown away, and -1 stands for it.
    done = conn.execute(statement, execution_options={"preserve_rowcount": True})
    return done.rowcount == 1
