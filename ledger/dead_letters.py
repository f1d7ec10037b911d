"""Looking at dead letters, and giving them up for good."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, update

from ledger.acting import check_act, check_principal
from ledger.clock import from_wall, wall_us
from ledger.dead import CHUNKS_AT_ONCE, is_dead_letter, of_request
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.filters import Filter
from ledger.model import as_json
from ledger.schema import chunk, request
from ledger.states import Kind, Lane, RequestState
from ledger.views import account_of_request

__all__ = ["DeadChunk", "DeadLetters", "discard", "list_dead", "reveal_dead", "show_dead"]

_NONE_RECORDED: Final = "unknown"


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """The dead letters of one request that were given up for one reason; no id of a memory.

    Attributes:
        id: The request's.
        reason: Slug of what became of their last call or read-back, such as `http_503`.
        chunks: How many they are, and `ids` how many ids they carry (1 a chunk for a purge).
        finished_at: When the request's latest generation ended; None when it has not.
    """

    id: str
    project: str
    kind: Kind
    lane: Lane
    state: RequestState
    generation: int
    reason: str
    chunks: int
    ids: int
    finished_at: datetime | None
    due_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """Give the JSON form; times as ISO 8601 in UTC."""
        return as_json(self)


@dataclass(frozen=True, kw_only=True, repr=False)
class DeadChunk:
    """One dead letter.

    Attributes:
        no: Its number in the request.
        generation: The generation in which it was given up.
        n: How many ids it carries; 1 for a purge.
        reason: As for `DeadLetters`.
        burnt: Calls of this generation that counted against the limit of attempts.
        doubtful: Its last call may have been applied.
        ids: The memory ids, or the one user or agent of a purge; None unless they were revealed.
    """

    no: int
    generation: int
    n: int
    reason: str
    burnt: int
    doubtful: bool
    ids: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        """Leave the ids out."""
        return f"DeadChunk(no={self.no}, n={self.n}, reason={self.reason!r})"


def list_dead(conn: Connection, *, matching: Filter, limit: int) -> list[DeadLetters]:
    """List the dead letters of the newest `limit` requests that match and have some.

    Returns:
        One for each request and reason; the newest request first, its largest part first.
    """
    some = select(chunk.c.request_id).where(is_dead_letter())
    newest = (
        select(request)
        .where(matching.condition(wall_us()), request.c.id.in_(some))
        .order_by(request.c.created_at.desc(), request.c.id.desc())
        .limit(max(0, limit))
    )
    found = []
    for row in conn.execute(newest).all():
        parts = conn.execute(
            select(chunk.c.last_reason, func.count(), func.sum(chunk.c.n))
            .where(of_request(row))
            .group_by(chunk.c.last_reason)
            .order_by(func.count().desc(), chunk.c.last_reason)
        )
        found += [
            _letters(row, reason, chunks=chunks, ids=int(ids)) for reason, chunks, ids in parts
        ]
    return found


def show_dead(database: Database, request_id: str, *, limit: int) -> list[DeadChunk]:
    """Show the first `limit` dead letters of a request, by number, without their ids.

    Raises:
        NotFoundError: There is no such request.
    """
    row, chunks = database.read(lambda conn: _dead_of(conn, request_id, limit))
    return [_chunk(row, one, reveal=False) for one in chunks]


def reveal_dead(
    database: Database, request_id: str, *, limit: int, principal: str
) -> list[DeadChunk]:
    """Show the first `limit` dead letters of a request with their ids; an event says who saw them.

    Args:
        database: Where the ledger is.
        request_id: The request.
        limit: Most chunks.
        principal: Who looks, for the record; at most 64 characters.

    Raises:
        NotFoundError: There is no such request.
        LedgerError: The ledger did not confirm that it recorded it; nothing is shown then.
    """
    check_principal(principal)
    row, chunks = database.read(lambda conn: _dead_of(conn, request_id, limit))
    found = [_chunk(row, one, reveal=True) for one in chunks]
    payload = {
        "principal": principal,
        "generation": row.generation,
        "chunks": len(found),
        "ids": sum(one.n for one in found),
    }
    database.write(
        lambda conn: append(conn, EventType.DEAD_REVEALED, payload, request_id=request_id)
    )
    return found


def discard(database: Database, request_id: str, *, principal: str, reason: str) -> bool:
    """Give the dead letters of a request up for good; its counts stay as they are.

    Done in short transactions, each with an event of its own: what a killed process left is
    discarded when it is run again.

    Args:
        database: Where the ledger is.
        request_id: The request.
        principal: Who discards them, for the record; at most 64 characters.
        reason: A short code for the record.

    Returns:
        False when it had none.

    Raises:
        NotFoundError: There is no such request.
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm; discarding again is safe.
    """
    check_act(principal=principal, reason=reason)
    database.read(lambda conn: account_of_request(conn, request_id))
    act = {"principal": principal, "reason": reason}
    changed = False
    while database.write_bulk(lambda conn: _discard_some(conn, request_id, act)):
        changed = True
    return changed


def _discard_some(conn: Connection, request_id: str, act: dict[str, Any]) -> bool:
    # Locked, so that a redrive under way has each of them or none.
    row = conn.execute(
        select(request).where(request.c.id == request_id).with_for_update(key_share=True)
    ).one()
    dead = conn.execute(
        select(chunk.c.id, chunk.c.n)
        .where(of_request(row))
        .order_by(chunk.c.no)
        .limit(CHUNKS_AT_ONCE)
    ).all()
    if not dead:
        return False
    ids = [one.id for one in dead]
    conn.execute(update(chunk).where(chunk.c.id.in_(ids)).values(discarded=1))
    payload = {
        **act,
        "generation": row.generation,
        "chunks": len(dead),
        "ids": sum(one.n for one in dead),
    }
    append(conn, EventType.DEAD_DISCARDED, payload, request_id=row.id)
    return True


def _dead_of(conn: Connection, request_id: str, limit: int) -> tuple[Row[Any], list[Row[Any]]]:
    account_of_request(conn, request_id)
    row = conn.execute(select(request).where(request.c.id == request_id)).one()
    chunks = conn.execute(
        select(chunk).where(of_request(row)).order_by(chunk.c.no).limit(max(0, limit))
    )
    return row, list(chunks)


def _letters(row: Row[Any], reason: str | None, *, chunks: int, ids: int) -> DeadLetters:
    return DeadLetters(
        id=row.id,
        project=row.project,
        kind=Kind(row.kind),
        lane=Lane(row.lane),
        state=RequestState(row.state),
        generation=row.generation,
        reason=reason or _NONE_RECORDED,
        chunks=chunks,
        ids=ids,
        finished_at=row.finished_at and from_wall(row.finished_at),
        due_at=row.due_at and from_wall(row.due_at),
    )


def _chunk(row: Row[Any], one: Row[Any], *, reveal: bool) -> DeadChunk:
    ids: tuple[str, ...] | None = None
    if reveal:
        ids = tuple(json.loads(one.ids)) or (str(row.subject),)
    return DeadChunk(
        no=one.no,
        generation=one.generation,
        n=one.n,
        reason=one.last_reason or _NONE_RECORDED,
        burnt=one.burnt,
        doubtful=bool(one.doubtful),
        ids=ids,
    )
