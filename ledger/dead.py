"""Dead letters: chunks that were given up, keep their ids, and wait for a person.

A dead letter is a chunk in state `dead` that nobody discarded. A redrive counts the request's
generation up first; what is dead of an older generation is then still to be made due again. So
the rows themselves say how far a redrive is, whoever was killed in the middle of it.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, select

from ledger.schema import chunk
from ledger.states import ChunkState

__all__ = ["CHUNKS_AT_ONCE", "bucket_of", "is_being_redriven", "is_dead_letter", "of_request"]

# Chunks changed in one transaction, which is then a short one however long the request is.
CHUNKS_AT_ONCE: Final = 100
_UNVERIFIABLE: Final = "unverifiable"
_STILL_PRESENT: Final = "still_present"


def is_dead_letter() -> ColumnElement[bool]:
    """Condition on a chunk, as the index `chunk_dead` has it."""
    return and_(chunk.c.state == ChunkState.DEAD, chunk.c.discarded == 0)


def of_request(row: Row[Any]) -> ColumnElement[bool]:
    """Condition on a chunk: a dead letter of this request (a row of the request table)."""
    return and_(is_dead_letter(), chunk.c.project == row.project, chunk.c.request_id == row.id)


def is_being_redriven(conn: Connection, row: Row[Any]) -> bool:
    """Say whether a redrive began of which some chunks are still to be made due.

    Such a request must not end, nor be read back: it would with half of its work undone.

    Args:
        conn: The transaction.
        row: A row of the request table, with all its columns.
    """
    if row.generation == 1 or not row.releasing:
        return False
    left = select(chunk.c.id).where(of_request(row), chunk.c.generation < row.generation)
    return conn.execute(left.limit(1)).first() is not None


def bucket_of(row: Row[Any]) -> str:
    """Name the count that a dead chunk's ids are under.

    Its flag `doubtful` says whether its last call may have been applied; what was seen, or could
    not be seen, after a call that was answered stands in its reason.
    """
    if row.last_reason == _STILL_PRESENT:
        return "still_present"
    return "unknown" if row.doubtful or row.last_reason == _UNVERIFIABLE else "refused"
