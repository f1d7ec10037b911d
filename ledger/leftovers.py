"""Leftovers: what a purge left behind is deleted by id, so that nothing else goes with it.

Sending the purge again would also take what appeared since it was ordered, and a server that
deletes one page at a time would need a purge a page. The list decides what became of them: they
are in no count, and no dead letters.
"""

import json
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from ledger.macs import ChunkFields, Macs
from ledger.schema import chunk, request
from ledger.states import ChunkState

__all__ = ["MOST_EVER", "are_under_way", "delete_by_id", "still_there"]

# Beyond this many in one generation's life somebody writes faster than we delete.
MOST_EVER: Final = 100_000


def are_under_way(conn: Connection, request_id: str) -> bool:
    """Say whether some of a purge's leftovers are still to be deleted."""
    live = select(chunk.c.id).where(
        chunk.c.request_id == request_id,
        chunk.c.leftover == 1,
        chunk.c.state.in_((ChunkState.DUE, ChunkState.LEASED)),
    )
    return conn.execute(live.limit(1)).first() is not None


def still_there(conn: Connection, of: Row[Any], ids: Collection[str]) -> bool:
    """Say whether the last round of deleting brought nothing, or there was none.

    It did when all of *ids* are new, and also when they are fewer than it was to delete: as long as
    they become fewer, the rounds come to an end by themselves.
    """
    mine = (
        chunk.c.request_id == of.id,
        chunk.c.generation == of.generation,
        chunk.c.leftover == 1,
    )
    last = select(func.max(chunk.c.first)).where(*mine).scalar_subquery()
    rows = conn.execute(
        select(chunk.c.ids).where(*mine, chunk.c.first == last, chunk.c.state != ChunkState.SPLIT)
    ).scalars()
    before = {one for row in rows for one in json.loads(row)}
    return not before or (not before.isdisjoint(ids) and len(ids) >= len(before))


def delete_by_id(
    conn: Connection,
    macs: Macs,
    of: Row[Any],
    purge: Row[Any],
    ids: Collection[str],
    *,
    due_ns: int,
) -> None:
    """Put chunks in line that delete *ids*.

    Args:
        conn: The transaction; it holds the lock of the request's row.
        macs: Makes their MACs.
        of: Row of the request.
        purge: Row of its one submitted chunk, whose place in line they take.
        ids: What the purge's list showed, and the server said is the subject's.
        due_ns: When they are due, by the ledger's clock.
    """
    mine = (chunk.c.request_id == of.id, chunk.c.leftover == 1)
    rounds = conn.execute(select(func.coalesce(func.max(chunk.c.first), 0)).where(*mine))
    number = conn.execute(select(request.c.next_no).where(request.c.id == of.id)).scalar_one()
    # Of a leftover, `first` is the round that found it.
    this_round = rounds.scalar_one() + 1
    rows = []
    waiting = sorted(ids)
    for offset, place in enumerate(range(0, len(waiting), of.chunk_size)):
        some = waiting[place : place + of.chunk_size]
        fields = ChunkFields(
            request_id=of.id,
            project=of.project,
            kind=of.kind,
            generation=of.generation,
            no=number + offset,
            parent=purge.no,
            first=this_round,
            places=None,
            ids=json.dumps(some, separators=(",", ":")),
        )
        rows.append(
            {
                "request_id": of.id,
                "generation": of.generation,
                "no": fields.no,
                "parent": fields.parent,
                "account": of.account,
                "project": of.project,
                "lane": of.lane,
                "urgency": of.urgency,
                "tag": purge.tag,
                "state": ChunkState.DUE,
                "ids": fields.ids,
                "n": len(some),
                "first": fields.first,
                "mac": macs.chunk(fields),
                "due_ns": due_ns,
                "leftover": 1,
            }
        )
    conn.execute(insert(chunk), rows)
    conn.execute(
        update(request)
        .where(request.c.id == of.id)
        .values(next_no=number + len(rows), leftovers=request.c.leftovers + len(ids))
    )
