"""Dividing chunks: their parts become chunks of their own, under MACs made here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from ledger.macs import ChunkFields, Macs
from ledger.schema import chunk, request
from ledger.states import ChunkState

__all__ = ["Part", "divide"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: which items of the parents, and its state from here on.

    Attributes:
        items: Indices into the ids of all parents, one parent's after the other's.
        hunt: Number of the chunk whose unknown ids are being hunted (`ledger.hunt`).
        disputed: The count that its ids are under until a read-back tells more.
        waits_for: Place among the parts of the one whose answer this one waits for.
    """

    items: Sequence[int]
    state: ChunkState
    due_ns: int = 0
    sightings: int = 0
    doubtful: int = 0
    last_reason: str | None = None
    disputed: str | None = None
    hunt: int | None = None
    waits_for: int | None = None


def divide(
    conn: Connection, macs: Macs, parents: Sequence[Row[Any]], parts: Sequence[Part]
) -> None:
    """Put `parts` in the parents' place; together they must carry each of their items once.

    Args:
        conn: The transaction; it locks the request's row for the numbers of the parts.
        macs: Makes the parts' MACs; a parent's was checked when it was claimed or made.
        parents: Rows of the chunk table, with all columns; several only when they are parts of one
            hunt, whose number is then the parent of the new ones.
        parts: One or more, none empty.
    """
    parent = parents[0]
    parent_no = parent.no if len(parents) == 1 else parent.hunt
    number = conn.execute(
        select(request.c.next_no)
        .where(request.c.id == parent.request_id)
        .with_for_update(key_share=True)
    ).scalar_one()
    kind = conn.execute(
        select(request.c.kind).where(request.c.id == parent.request_id)
    ).scalar_one()
    ids = [item for one in parents for item in json.loads(one.ids)]
    places = [place for one in parents for place in _places(one)]
    rows = []
    for offset, part in enumerate(parts):
        own = [places[item] for item in part.items]
        in_a_row = own == list(range(own[0], own[0] + len(own)))
        fields = ChunkFields(
            request_id=parent.request_id,
            project=parent.project,
            kind=kind,
            generation=parent.generation,
            no=number + offset,
            parent=parent_no,
            # Of a leftover it is the round that found it.
            first=parent.first if parent.leftover else own[0],
            places=None if in_a_row or parent.leftover else json.dumps(own, separators=(",", ":")),
            ids=json.dumps([ids[item] for item in part.items], separators=(",", ":")),
        )
        rows.append(
            {
                "request_id": fields.request_id,
                "generation": fields.generation,
                "no": fields.no,
                "parent": fields.parent,
                "account": parent.account,
                "project": parent.project,
                "lane": parent.lane,
                "urgency": parent.urgency,
                # The parent's place in line: the parts do not queue again.
                "tag": parent.tag,
                "state": part.state,
                "ids": fields.ids,
                "n": len(own),
                "first": fields.first,
                "places": fields.places,
                "mac": macs.chunk(fields),
                "due_ns": part.due_ns,
                "sightings": part.sightings,
                "doubtful": part.doubtful,
                "was_absent": parent.was_absent,
                "last_reason": part.last_reason,
                "leftover": parent.leftover,
                "disputed": part.disputed,
                "hunt": part.hunt,
                "waits_on": None if part.waits_for is None else number + part.waits_for,
            }
        )
    conn.execute(insert(chunk), rows)
    conn.execute(
        update(chunk)
        .where(chunk.c.id.in_([one.id for one in parents]))
        .values(state=ChunkState.SPLIT, lease_until_ns=0, due_ns=0, reading=0, waits_on=None)
    )
    conn.execute(
        update(request).where(request.c.id == parent.request_id).values(next_no=number + len(parts))
    )


def _places(row: Row[Any]) -> Sequence[int]:
    """Give the places of a chunk's ids among the request's."""
    if row.places:
        places: list[int] = json.loads(row.places)
        return places
    return range(row.first, row.first + row.n)
