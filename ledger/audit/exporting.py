"""The log as a file that others can check without our code; docs/formats.md describes it.

JSON, an object a line: a head, the leaves in their order, behind the last leaf of each checkpoint
that checkpoint, and a foot with the counts. Whoever reads it needs to keep some 30 hashes only.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, select

from ledger.audit.pruned import exported_below
from ledger.audit.state import read_state
from ledger.audit.verifying import leaf_rows
from ledger.errors import AuditError
from ledger.schema import checkpoint, origin

__all__ = ["FORMAT", "export_lines"]

FORMAT: Final = "expunge-audit-export/v1"
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def export_lines(conn: Connection) -> Iterator[str]:
    """Give the lines of an export, up to the last checkpoint; none of them has a line break.

    Args:
        conn: A transaction that only reads; open for as long as lines are taken.

    Raises:
        AuditError: Nothing was signed yet, the last pruning is not signed yet, or rows are not what
            was recorded.
        LedgerError: The database did not answer.
    """
    try:
        yield from _lines(conn)
    except (TypeError, ValueError):
        # A number or a text where there was another: SQLite stores any type.
        msg = (
            "A row of the log is not what was recorded; run `expunge audit verify`, it says which."
        )
        raise AuditError(msg) from None


def _lines(conn: Connection) -> Iterator[str]:
    state = read_state(conn)
    notes = conn.execute(select(checkpoint).order_by(checkpoint.c.no)).all()
    if not notes:
        msg = "Nothing was signed yet, so there is nothing to export; run `expunge seal --once`."
        raise AuditError(msg)
    size = min(notes[-1].size, state.leaves)
    origins = conn.execute(select(origin).order_by(origin.c.no)).all()
    below = exported_below(conn, size)
    yield _encode(
        {
            "format": FORMAT,
            "origins": [{"name": one.name, "size": one.size} for one in origins],
            "size": notes[-1].size,
            "pruned_below": below,
        }
    )
    due = iter(notes)
    waiting: Any = next(due)
    for row in leaf_rows(conn, size):
        yield _encode(_leaf(row))
        while waiting is not None and waiting.size <= row.idx + 1:
            yield _encode({"checkpoint": waiting.note})
            waiting = next(due, None)
    while waiting is not None:
        yield _encode({"checkpoint": waiting.note})
        waiting = next(due, None)
    yield _encode({"leaves": size, "checkpoints": len(notes)})


def _leaf(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row
    pruned = row.payload is None
    if not all(type(one) is bytes for one in (row.hash, *(() if pruned else row[-2:]))):
        msg = f"Leaf {row.idx} is not what was recorded; run `expunge audit verify`."
        raise AuditError(msg)
    line: dict[str, Any] = {"index": row.idx, "hash": row.hash.hex()}
    if not pruned:
        line |= {"salt": row.salt.hex(), "payload": row.payload.decode()}
    return line
