"""A chunk's place in line, and moving a request's chunks out of it and back.

A request's flag `releasing` says that its chunks are not yet where they belong: parked while it is
held, due when it is not. The sweep goes on wherever a killed process stopped.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, select, update

from ledger.among import among
from ledger.dead import is_being_redriven
from ledger.engine import Database
from ledger.events import EventType
from ledger.schema import FOREVER_NS, account, chunk, event, project, request
from ledger.states import ChunkState, Lane, RequestState

__all__ = [
    "CHUNKS_AT_ONCE",
    "count_turns",
    "note_returned",
    "park_chunks",
    "place_in_line",
    "release_chunks",
]

# Numbers looked at in one transaction, which is then a short one however long the request is: about
# 8 ms on SQLite, which writes a row anew as a whole.
CHUNKS_AT_ONCE: Final = 300
_HELD_STILL: Final = select(request.c.id).where(
    among(request.c.id, "request_ids"),
    request.c.held == 1,
    request.c.releasing == 0,
)


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
    _move_chunks(database, request_id, held=False)


def park_chunks(database: Database, request_id: str) -> None:
    """Take the due chunks of a held request out of the line, in short transactions.

    Claims skip a held request without this; but they would walk over all its chunks each time.
    Safe to call again and from several processes; the sweep finishes what a killed one began.
    """
    _move_chunks(database, request_id, held=True)


def note_returned(conn: Connection, request_ids: Collection[str]) -> None:
    """Let the sweep park what came back into line of held requests (an answer, a lapsed lease).

    Args:
        conn: The transaction that put chunks back.
        request_ids: Requests with such chunks, held or not.
    """
    if not request_ids:
        return
    held = conn.execute(_HELD_STILL, {"request_ids": list(request_ids)}).scalars()
    for request_id in sorted(held):
        conn.execute(
            update(request)
            .where(request.c.id == request_id, request.c.held == 1)
            .values(releasing=1)
        )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """How far a walk over a request's chunks is: the next number, and in which turn."""

    number: int
    turn: int


def _move_chunks(database: Database, request_id: str, *, held: bool) -> None:
    place: _Place | None = None
    while True:
        here = place
        place = database.write_bulk(lambda conn: _move_some(conn, request_id, here, held=held))  # noqa: B023 - run at once
        if place is None:
            return


def _move_some(
    conn: Connection, request_id: str, place: _Place | None, *, held: bool
) -> _Place | None:
    """Move the chunks of some numbers; gives the next place, or None when this walk is over."""
    # Locked, or a second one would put chunks back that were claimed and parked again meanwhile.
    row = conn.execute(
        select(request).where(request.c.id == request_id).with_for_update(key_share=True)
    ).first()
    if (
        row is None
        or row.state not in (RequestState.OPEN, RequestState.VERIFYING)
        or not row.releasing
        or row.cancelling
        or bool(row.held) != held
        # Whoever redrives it does this at the end.
        or is_being_redriven(conn, row)
    ):
        return None
    turn = count_turns(conn, request_id)
    if place is None:
        place = _Place(number=0, turn=turn)
    elif place.turn != turn:
        # Held and released again since the last step: the numbers before are somebody else's to
        # walk, and only whoever has walked them all may say that it is done.
        return None
    end = place.number + CHUNKS_AT_ONCE
    conn.execute(
        update(chunk)
        .where(
            chunk.c.request_id == request_id,
            chunk.c.state == ChunkState.DUE,
            chunk.c.no >= place.number,
            chunk.c.no < end,
            _misplaced(held=held),
        )
        .values(due_ns=FOREVER_NS if held else 0)
    )
    if end < row.next_no:
        return _Place(number=end, turn=turn)
    conn.execute(update(request).where(request.c.id == request_id).values(releasing=0))
    return None


def _misplaced(*, held: bool) -> ColumnElement[bool]:
    if held:
        return chunk.c.due_ns < FOREVER_NS
    # One that waits for its probes, or for another part of its hunt, is parked for that reason.
    return (chunk.c.due_ns == FOREVER_NS) & (chunk.c.reading == 0) & chunk.c.waits_on.is_(None)


def count_turns(conn: Connection, request_id: str) -> int:
    """Count how often a request was held and released, so that a walk knows whether it was since.

    Events are never deleted; their bodies may be.
    """
    turns = (EventType.REQUEST_HELD, EventType.REQUEST_RELEASED)
    return conn.execute(
        select(func.count())
        .select_from(event)
        .where(event.c.request == request_id, event.c.type.in_(turns))
    ).scalar_one()
