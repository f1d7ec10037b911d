"""The closing MAC: are the submitted chunks all there, and only they?"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from ledger.macs import ChunkFields, Macs, chained, same
from ledger.schema import chunk, request
from ledger.states import ChunkState, Kind

__all__ = ["chain_is_whole", "has_unsent"]


def chain_is_whole(
    conn: Connection,
    macs: Macs,
    request_id: str,
    *,
    each: Callable[[Row[Any]], None] = lambda _row: None,
) -> bool:
    """Check the closing MAC: are the submitted chunks all there, and only they?

    Args:
        conn: A transaction.
        macs: Makes the MACs anew.
        request_id: The request.
        each: Is shown each submitted chunk's row in its order, the very one that is checked.
    """
    row = conn.execute(
        select(request.c.kind, request.c.chunks, request.c.closing_mac).where(
            request.c.id == request_id
        )
    ).one()
    covered = {field.name for field in fields(ChunkFields)} - {"kind", "generation"}
    submitted = (
        select(*(chunk.c[name] for name in sorted(covered)))
        .where(chunk.c.request_id == request_id, chunk.c.parent.is_(None))
        .order_by(chunk.c.no)
        .execution_options(yield_per=1_000)
    )
    chain, n = b"", 0
    with conn.execute(submitted) as stored:
        for one in stored:
            # Made anew: what stands in the row may have been changed after its call.
            # All were handed in under the first generation, whichever they are of by now.
            handed_in = ChunkFields(kind=row.kind, generation=1, **one._mapping)  # noqa: SLF001 - SQLAlchemy's name
            chain = chained(chain, macs.chunk(handed_in))
            each(one)
            n += 1
    if row.kind != Kind.MEMORIES and _is_odd(conn, request_id):
        return False
    return n == row.chunks and same(row.closing_mac, macs.closing(request_id, n, chain))


def has_unsent(conn: Connection, request_id: str) -> bool:
    """Say whether a purge that is about to end has a chunk that is still to be sent.

    Of those that are marked as leftovers it waits; one that lost its mark would stay behind.
    """
    unsent = (
        select(chunk.c.id)
        .join(request, request.c.id == chunk.c.request_id)
        .where(
            chunk.c.request_id == request_id,
            request.c.kind != Kind.MEMORIES,
            chunk.c.state.in_((ChunkState.DUE, ChunkState.LEASED)),
        )
    )
    return conn.execute(unsent.limit(1)).first() is not None


def _is_odd(conn: Connection, request_id: str) -> bool:
    """Say whether a purge has a chunk that is neither itself nor one of its leftovers.

    The mark is under no MAC, and without it somebody could make a purge end with something left.
    """
    odd = or_(
        chunk.c.parent.is_not(None) & (chunk.c.leftover == 0),
        chunk.c.parent.is_(None) & (chunk.c.leftover == 1),
    )
    found = select(chunk.c.id).where(chunk.c.request_id == request_id, odd).limit(1)
    return conn.execute(found).first() is not None
