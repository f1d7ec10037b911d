"""The tree as it is stored: hashes of leaves, and the root of each full subtree of 256, 65,536, ….

Any root over a range, and with it any proof, takes some 25 short range scans and a few hundred
hashes, however many leaves there are.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select

from ledger.audit.merkle import (
    EMPTY_ROOT,
    STRIDE,
    Frontier,
    consistency_path,
    fold,
    inclusion_path,
    root_of,
)
from ledger.errors import AuditError
from ledger.schema import leaf, subtree

__all__ = ["StoredTree", "count_leaves", "insert_rows"]

# A statement's parameters: SQLite takes 32,766.
_MOST_VALUES: Final = 30_000
_ARRAYS: Final = {int: "bigint", str: "text", bytes: "bytea"}


def count_leaves(conn: Connection) -> int:
    """Count the leaves by their last index; a gap before it shows when roots are asked for."""
    last = conn.execute(select(func.max(leaf.c.idx))).scalar()
    return 0 if last is None else int(last) + 1


class StoredTree:
    """Roots and proofs of the ledger's tree.

    Args:
        conn: A transaction.
    """

    def __init__(self, conn: Connection) -> None:
        """Read nothing yet."""
        self._conn = conn

    def root(self, start: int, end: int) -> bytes:
        """Give the root over leaves `start` up to, not including, `end`.

        Args:
            start: A multiple of the power of two that `end - start` is at most, as in all proofs.
            end: More than `start`, or 0 for the empty tree.

        Raises:
            AuditError: Rows are missing.
        """
        return fold(self._peaks(start, end)) if end else EMPTY_ROOT

    def frontier(self, size: int) -> Frontier:
        """Give the right-hand edge of the tree of the first `size` leaves.

        Raises:
            AuditError: Rows are missing.
        """
        return Frontier(size, self._peaks(0, size))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Prove that a leaf is in the tree of `size` leaves.

        Raises:
            ValueError: That tree has no such leaf.
            AuditError: Rows are missing.
        """
        return inclusion_path(index, size, self.root)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the tree of `old` leaves is how that of `new` leaves begins.

        Raises:
            ValueError: `old` is not from 1 to `new`.
            AuditError: Rows are missing.
        """
        return consistency_path(old, new, self.root)

    def _peaks(self, start: int, end: int) -> list[bytes]:
        peaks = []
        while start < end:
            height = (end - start).bit_length() - 1
            if start:
                height = min(height, (start & -start).bit_length() - 1)
            peaks.append(self._full(start, height))
            start += 1 << height
        return peaks

    def _full(self, start: int, height: int) -> bytes:
        """Give the root of a full subtree of 2 to the `height` leaves, from the nearest stored."""
        level = height // STRIDE
        count = 1 << height - level * STRIDE
        first = start >> level * STRIDE
        if level:
            query = select(subtree.c.hash).where(
                subtree.c.level == level, subtree.c.idx >= first, subtree.c.idx < first + count
            )
            found = self._conn.execute(query.order_by(subtree.c.idx)).scalars().all()
        else:
            query = select(leaf.c.hash).where(leaf.c.idx >= first, leaf.c.idx < first + count)
            found = self._conn.execute(query.order_by(leaf.c.idx)).scalars().all()
        if len(found) != count:
            msg = (
                f"Of the log's leaves {start} to {start + (1 << height) - 1} some are missing; "
                "`expunge audit verify` says which."
            )
            raise AuditError(msg)
        return root_of(found)


def insert_rows(
    conn: Connection, table: str, columns: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert plain rows by few statements; one for each row would take several times as long.

    Args:
        conn: The transaction.
        table: One of ours.
        columns: Names, with commas.
        rows: Values in that order.
    """
    if not rows:
        return
    if conn.dialect.name == "postgresql":
        # One parameter a column: binding thousands takes longer than inserting them.
        types = [_ARRAYS[type(value)] for value in rows[0]]
        arrays = ", ".join(f"%s::{kind}[]" for kind in types)
        conn.exec_driver_sql(
            f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays})",  # noqa: S608 - as below
            tuple(map(list, zip(*rows, strict=True))),
        )
        return
    mark = "?"
    width = len(rows[0])
    one = f"({', '.join([mark] * width)})"
    for some in _portions(rows, _MOST_VALUES // width):
        values = ", ".join([one] * len(some))
        conn.exec_driver_sql(
            f"INSERT INTO {table} ({columns}) VALUES {values}",  # noqa: S608 - names of ours
            tuple(value for row in some for value in row),
        )


def _portions(rows: Sequence[tuple[Any, ...]], most: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    for at in range(0, len(rows), most):
        yield rows[at : at + most]
