"""INSERT … ON CONFLICT DO NOTHING on both databases: the first of several writers wins."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert_missing"]


def insert_missing(conn: Connection, table: Table, **values: Any) -> bool:  # noqa: ANN401 - columns
    """Insert a row unless its key is taken; says whether it was inserted."""
    insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table).values(**values).on_conflict_do_nothing()
    return conn.execute(statement).rowcount == 1
