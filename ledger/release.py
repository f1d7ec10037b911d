"""A chunk's place in line, and letting parked chunks go."""

from typing import Final

from sqlalchemy import Connection, select, update

from ledger.engine import Database
from ledger.schema import FOREVER_NS, account, chunk, project, request
from ledger.states import ChunkState, Lane, RequestState

__all__ = ["place_in_line", "release_chunks"]

_CHUNKS_PER_TRANSACTION: Final = 1_000


def place_in_line(conn: Connection, project_name: str, account_name: str, lane: str, n: int) -> int:
    """Give `n` consecutive start tags of a project in its lane (start-time fair queueing).

    A project's work starts at the later of where its own line ends and where the account is now.
    So a project with a long line cannot keep one that comes later waiting for its whole length.
    """
    tail, served = (
        (project.c.erasure_tail, account.c.erasure_tag)
        if lane == Lane.ERASURE
        else (project.c.bulk_tail, account.c.bulk_tag)
    )
    now = conn.execute(select(served).where(account.c.name == account_name)).scalar_one()
    end = conn.execute(
        select(tail).where(project.c.name == project_name).with_for_update(key_share=True)
    ).scalar_one()
    start: int = max(now, end)
    conn.execute(update(project).where(project.c.name == project_name).values({tail: start + n}))
    return start


def release_chunks(database: Database, request_id: str) -> None:
    """Make the parked chunks of an open request due, in short transactions.

    Safe to call again and from several processes; the sweep finishes what a killed one began.
    """
    while database.write(lambda conn: _release_some(conn, request_id)):
        pass


def _release_some(conn: Connection, request_id: str) -> bool:
    # Locked, or a second one would put chunks back that were claimed and parked again meanwhile.
    row = conn.execute(
        select(request.c.state, request.c.releasing, request.c.held)
        .where(request.c.id == request_id)
        .with_for_update(key_share=True)
    ).first()
    if row is None or row.state != RequestState.OPEN or not row.releasing or row.held:
        return False
    some = (
        select(chunk.c.id)
        .where(
            chunk.c.request_id == request_id,
            chunk.c.state == ChunkState.DUE,
            chunk.c.due_ns == FOREVER_NS,
            # One that waits for its probes is parked for another reason.
            chunk.c.reading == 0,
        )
        .order_by(chunk.c.no)
        .limit(_CHUNKS_PER_TRANSACTION)
    )
    released = conn.execute(update(chunk).where(chunk.c.id.in_(some)).values(due_ns=0))
    if released.rowcount < _CHUNKS_PER_TRANSACTION:
        conn.execute(update(request).where(request.c.id == request_id).values(releasing=0))
        return False
    return True
