"""Dividing a chunk: its parts become chunks of their own, under MACs made here."""

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
    """One part: which items of the parent (indices into its ids), and its state from here on."""

    items: Sequence[int]
    state: ChunkState
    due_ns: int = 0
    sightings: int = 0
    doubtful: int = 0
    last_reason: str | None = None


def divide(conn: Connection, macs: Macs, parent: Row[Any], parts: Sequence[Part]) -> None:
    """Put `parts` in the parent's place; together they must carry each of its items once.

    Args:
        conn: The transaction; it locks the request's row for the numbers of the parts.
        macs: Makes the parts' MACs; the parent's was checked when it was claimed.
        parent: A row of the chunk table, with all its columns.
        parts: Two or more, none empty.
    """
    number = conn.execute(
        select(request.c.next_no)
        .where(request.c.id == parent.request_id)
        .with_for_update(key_share=True)
    ).scalar_one()
    kind = conn.execute(
        select(request.c.kind).where(request.c.id == parent.request_id)
    ).scalar_one()
    ids = json.loads(parent.ids)
    places = (
        json.loads(parent.places) if parent.places else range(parent.first, parent.first + parent.n)
    )
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
            parent=parent.no,
            first=own[0],
            places=None if in_a_row else json.dumps(own, separators=(",", ":")),
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
            }
        )
    conn.execute(insert(chunk), rows)
    conn.execute(
        update(chunk)
        .where(chunk.c.id == parent.id)
        .values(state=ChunkState.SPLIT, lease_until_ns=0, due_ns=0, reading=0)
    )
    conn.execute(
        update(request).where(request.c.id == parent.request_id).values(next_no=number + len(parts))
    )
