"""Many rows by one statement of the driver's own, for what comes by the hundred or thousand."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table

__all__ = ["insert_all", "mark", "marks", "update_all"]


def insert_all(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows by one statement, of plain values that the driver takes as they are.

    One statement is one way to PostgreSQL and back; there, each column is one array, since a mark
    for every value would take longer to read than to carry out. In SQLite it is one step: each of
    many would give up Python's lock and wait for it again, with the writer held.

    Args:
        conn: The transaction.
        table: Of the ledger.
        rows: At least one, and all with the same columns in the same order; SQLite takes 32,766
            values in all.
    """
    columns = tuple(rows[0])
    if conn.dialect.name == "postgresql":
        lists = tuple([row[name] for row in rows] for name in columns)
        conn.exec_driver_sql(_from_arrays(table, columns, conn.dialect), lists)
        return
    statement = _statement(table.name, columns, len(rows))
    conn.exec_driver_sql(statement, tuple(value for row in rows for value in row.values()))


def update_all(conn: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Update rows by their `id`, each to values of its own.

    Args:
        conn: The transaction.
        table: Of the ledger, with a column `id`.
        rows: At least one, all with the same columns; the row's own id is `row_id`.
    """
    columns = tuple(name for name in rows[0] if name != "row_id")
    if conn.dialect.name == "postgresql":
        # One way there and back, where rows one by one are a statement each.
        lists = tuple([row[name] for row in rows] for name in ("row_id", *columns))
        conn.exec_driver_sql(_update_from_arrays(table, columns, conn.dialect), lists)
        return
    changes = ", ".join(f'"{name}" = ?' for name in columns)
    statement = f'UPDATE "{table.name}" SET {changes} WHERE id = ?'  # noqa: S608 - names of our own tables
    conn.exec_driver_sql(
        statement, [tuple(row[name] for name in (*columns, "row_id")) for row in rows]
    )


def mark(conn: Connection) -> str:
    """Give what stands for a value in a statement of this driver's."""
    return "?" if conn.dialect.paramstyle == "qmark" else "%s"


def marks(sign: str, count: int) -> str:
    """Give so many of them, with commas between."""
    return ", ".join([sign] * count)


@lru_cache(maxsize=64)
def _statement(table: str, columns: tuple[str, ...], rows: int) -> str:
    row = f"({marks('?', len(columns))})"
    return f'INSERT INTO "{table}" ({_names(columns)}) VALUES {", ".join([row] * rows)}'  # noqa: S608 - names of our own tables


@lru_cache(maxsize=64)
def _from_arrays(table: Table, columns: tuple[str, ...], dialect: Dialect) -> str:
    types = [table.c[name].type.compile(dialect=dialect) for name in columns]
    # In binary: as text, each quote in it would have to be escaped.
    arrays = ", ".join(f"%b::{each}[]" for each in types)
    return f'INSERT INTO "{table.name}" ({_names(columns)}) SELECT * FROM unnest({arrays})'  # noqa: S608 - names of our own tables


@lru_cache(maxsize=64)
def _update_from_arrays(table: Table, columns: tuple[str, ...], dialect: Dialect) -> str:
    types = [table.c[name].type.compile(dialect=dialect) for name in ("id", *columns)]
    arrays = ", ".join(f"%b::{each}[]" for each in types)
    changes = ", ".join(f'"{name}" = told."{name}"' for name in columns)
    return (
        f'UPDATE "{table.name}" SET {changes}'  # noqa: S608 - names of our own tables
        f" FROM unnest({arrays}) AS told(row_id, {_names(columns)})"
        f' WHERE "{table.name}".id = told.row_id'
    )


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
