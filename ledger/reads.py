"""Read-backs of one request: which ids are read, put in line, and what they showed."""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from ledger.among import among
from ledger.policy import draw
from ledger.schema import chunk, readback
from ledger.states import ChunkState, Sight

__all__ = [
    "CHUNKS_PER_STEP",
    "CONTROL",
    "LIST",
    "Read",
    "all_of_disputed",
    "are_outstanding",
    "control_of",
    "delivered",
    "drawn",
    "forget",
    "next_reads",
    "plan",
    "shows",
    "sights_by_chunk",
]

Read: TypeAlias = Mapping[str, Any]
"""What a read-back's row says of what is read."""

CHUNKS_PER_STEP: Final = 200
_READS_PER_STEP: Final = 200
LIST: Final[Read] = {"kind": "list", "item": None, "chunk_id": None, "control": 0}
"""The list of the request's subject, or of the whole cube."""
CONTROL: Final[Read] = {**LIST, "control": 1}
"""The list of nobody: does the store answer at all?"""


# Built once: what each step of a read-back asks.
_OF_REQUEST: Final = readback.c.request_id == bindparam("of_request")
_IS_DELIVERED: Final = (chunk.c.request_id == bindparam("of_request")) & (
    chunk.c.state == ChunkState.DELIVERED
)
_FORGET: Final = delete(readback).where(_OF_REQUEST)
_OUTSTANDING: Final = select(readback.c.id).where(_OF_REQUEST, readback.c.state != "done").limit(1)
_CONTROL: Final = select(readback).where(_OF_REQUEST, readback.c.control == 1)
_DELIVERED: Final = select(chunk).where(_IS_DELIVERED).order_by(chunk.c.no).limit(bindparam("most"))
_SIGHTS: Final = (
    select(readback.c.chunk_id, readback.c.sight)
    .where(_OF_REQUEST, readback.c.purpose == "verify", readback.c.kind == "id")
    .order_by(readback.c.chunk_id, readback.c.item)
)
_READ: Final = select(chunk).where(among(chunk.c.id, "chunk_ids"))


def plan(
    conn: Connection,
    of: Row[Any],
    reads: Sequence[Read],
    *,
    due_ns: int,
    sight: Sight | None = None,
) -> None:
    """Put reads in line.

    Args:
        conn: The transaction.
        of: Row of the request.
        reads: What is read.
        due_ns: When, by the ledger's clock.
        sight: What they showed, of reads that need not be made.
    """
    if not reads:
        return
    conn.execute(
        insert(readback),
        [
            {
                "request_id": of.id,
                "generation": of.generation,
                "account": of.account,
                "project": of.project,
                "lane": of.lane,
                "urgency": of.urgency,
                "purpose": "verify",
                "state": "due" if sight is None else "done",
                "sight": sight,
                "due_ns": due_ns,
                **read,
            }
            for read in reads
        ],
    )


def forget(conn: Connection, request_id: str) -> None:
    """Take all reads of a request away: the attempts stay as the record of the calls."""
    conn.execute(_FORGET, {"of_request": request_id})


def are_outstanding(conn: Connection, request_id: str) -> bool:
    """Say whether some reads of a request have still to be made."""
    return conn.execute(_OUTSTANDING, {"of_request": request_id}).first() is not None


def control_of(conn: Connection, request_id: str) -> Row[Any] | None:
    """Give the row of the control list, when there is one."""
    return conn.execute(_CONTROL, {"of_request": request_id}).first()


def delivered(conn: Connection, request_id: str, *, limit: int) -> Sequence[Row[Any]]:
    """Give chunks that have still to be judged, the first ones first."""
    return conn.execute(_DELIVERED, {"of_request": request_id, "most": limit}).all()


def drawn(
    conn: Connection, request_id: str, *, label: str, generation: int, size: int
) -> list[Read]:
    """Draw ids to read among those that were taken, in the order of their places.

    Args:
        conn: The transaction.
        request_id: Of the request.
        label: What the draw is made from (`ledger.policy.draw`).
        generation: Of the request.
        size: How many; all when there are fewer.
    """
    taken = conn.execute(
        select(chunk.c.id, chunk.c.n)
        .where(_IS_DELIVERED, chunk.c.disputed.is_(None))
        .order_by(chunk.c.first, chunk.c.no),
        {"of_request": request_id},
    ).all()
    places = draw(
        request_id=label,
        generation=generation,
        population=sum(one.n for one in taken),
        size=size,
    )
    ends = list(accumulate(one.n for one in taken))
    reads = []
    for index in places:
        position = bisect_right(ends, index)
        one = taken[position]
        reads.append(_read(one.id, index - (ends[position] - one.n)))
    return reads


def all_of_disputed(conn: Connection, request_id: str) -> list[Read]:
    """Give reads of every id that was refused or never answered."""
    disputed = conn.execute(
        select(chunk.c.id, chunk.c.n).where(_IS_DELIVERED, chunk.c.disputed.is_not(None)),
        {"of_request": request_id},
    ).all()
    return [_read(one.id, item) for one in disputed for item in range(one.n)]


def next_reads(conn: Connection, request_id: str) -> list[Read]:
    """Give reads of the next chunks, so many that there are 200 or one whole chunk."""
    reads: list[Read] = []
    for one in delivered(conn, request_id, limit=CHUNKS_PER_STEP):
        if reads and len(reads) + one.n > _READS_PER_STEP:
            break
        reads += [_read(one.id, item) for item in range(one.n)]
    return reads


def sights_by_chunk(conn: Connection, request_id: str) -> list[tuple[Row[Any], list[Sight]]]:
    """Give the chunks whose ids were read, each with what was seen of them, in their order."""
    sights: dict[int, list[Sight]] = defaultdict(list)
    for read in conn.execute(_SIGHTS, {"of_request": request_id}):
        sights[read.chunk_id].append(Sight(read.sight))
    if not sights:
        return []
    rows = conn.execute(_READ, {"chunk_ids": list(sights)}).all()
    return [(one, sights[one.id]) for one in rows]


def shows(conn: Connection, read: Row[Any]) -> str:
    """Give the id that a read-back by id is about."""
    ids = conn.execute(select(chunk.c.ids).where(chunk.c.id == read.chunk_id)).scalar_one()
    memory_id: str = json.loads(ids)[read.item]
    return memory_id


def _read(chunk_id: int, item: int) -> Read:
    return {"kind": "id", "item": item, "chunk_id": chunk_id, "control": 0}
