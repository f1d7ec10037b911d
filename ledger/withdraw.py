"""Taking the due chunks of a cancelled request out of the line, each under its honest count.

Never sent: `cancelled`. Sent, and the answer was lost: `unknown`. Sent and taken, and seen to be
still there afterwards: `still_present`. Refused, and redriven since: `refused`. What is leased
ends by itself, and what was delivered is read back as ever.
"""

from typing import Any, Final

from sqlalchemy import Connection, Row, case, delete, select, update

from ledger.counting import Tally
from ledger.schema import chunk, readback
from ledger.states import ChunkState

__all__ = ["await_probes", "withdraw"]

CHUNKS_AT_ONCE: Final = 500


def withdraw(conn: Connection, request_id: str) -> bool:
    """Take some due chunks out, and the probes that nobody waits for any more.

    Args:
        conn: The transaction; it holds the lock of the request's row.
        request_id: A request that is being cancelled.

    Returns:
        False when there was none left.
    """
    rows = conn.execute(
        select(
            chunk.c.id,
            case((chunk.c.leftover == 1, 0), else_=chunk.c.n).label("n"),
            chunk.c.doubtful,
            chunk.c.sightings,
            chunk.c.generation,
        )
        .where(chunk.c.request_id == request_id, chunk.c.state == ChunkState.DUE)
        .order_by(chunk.c.no)
        .limit(CHUNKS_AT_ONCE)
        # Not skipping those that a claim has in hand: it is over in a moment.
        .with_for_update(key_share=True)
    ).all()
    conn.execute(
        delete(readback).where(
            readback.c.request_id == request_id,
            readback.c.purpose == "probe",
            readback.c.state.in_(("due", "done")),
        )
    )
    tally = Tally()
    for row in rows:
        tally.move(request_id, row.n, out_of="pending", into=_bucket(row))
    conn.execute(
        update(chunk)
        .where(chunk.c.id.in_([row.id for row in rows]))
        .values(state=ChunkState.CANCELLED, due_ns=0, reading=0, waits_on=None)
    )
    tally.apply(conn)
    return bool(rows)


def await_probes(conn: Connection, request_id: str) -> bool:
    """Say whether probes are still under way; their records have to be closed before the end."""
    leased = select(readback.c.id).where(
        readback.c.request_id == request_id,
        readback.c.state == "leased",
        readback.c.purpose == "probe",
    )
    return conn.execute(leased.limit(1)).first() is not None


def _bucket(row: Row[Any, Any, Any, Any, Any]) -> str:
    # In this order: sent again after it was seen, and that answer lost, nobody knows.
    if row.doubtful:
        return "unknown"
    if row.sightings:
        return "still_present"
    # It was sent in a generation before, and what it was given up for still holds.
    return "refused" if row.generation > 1 else "cancelled"
