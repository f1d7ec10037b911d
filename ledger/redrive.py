"""Redriving dead letters: the next generation of a request that has ended.

The first short transaction is what counts: it opens the request under the next generation. Its
dead chunks are then made due in short transactions, each with the counts of its own chunks. A
request of which some are not yet due does not end meanwhile, and the sweep finishes what a killed
process began.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, update

from ledger.acting import check_act, lock_request
from ledger.checks import header_holds
from ledger.clock import wall_us
from ledger.dead import CHUNKS_AT_ONCE, is_being_redriven, is_dead_letter, of_request
from ledger.engine import Database
from ledger.errors import ConflictError, TamperedError
from ledger.events import EventType, append
from ledger.macs import Macs
from ledger.reads import forget
from ledger.redrive_chunks import Pace, is_whole, make_due
from ledger.schema import FOREVER_NS, chunk, event, event_body, request
from ledger.states import FINAL_REQUEST_STATES, ChunkState, RequestState
from ledger.views import account_of_request

__all__ = ["abandoned", "redrive", "resume_redrive"]

_DAY_US: Final = 86_400_000_000
# A redrive that made no step for so long has nobody any more who carries it on.
_ABANDONED_US: Final = 10_000_000


def redrive(
    database: Database,
    macs: Macs,
    request_id: str,
    *,
    principal: str,
    reason: str,
    redrive_days: float,
    pace: Pace,
) -> bool:
    """Send the dead letters of a request that has ended again, under its next generation.

    Args:
        database: Where the ledger is.
        macs: Checks that each chunk is what was ordered, and vouches for the new generation.
        request_id: A request that has ended and has dead letters.
        principal: Who redrives it, for the record; at most 64 characters.
        reason: A short code for the record.
        redrive_days: How many days after its end that may be done.
        pace: How fast its chunks come due.

    Returns:
        False when a redrive of it was under way, which is now carried to its end.

    Raises:
        NotFoundError: There is no such request.
        ConflictError: It has not ended, was cancelled, has no dead letter, or ended too long ago.
        TamperedError: Its header, or each of its dead letters, is not what was ordered; an event
            says so and nothing else was changed.
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm. Once it has opened the request, the sweep does
            the rest.
    """
    check_act(principal=principal, reason=reason)

    def work(conn: Connection) -> str | None:
        row = lock_request(conn, request_id)
        if is_being_redriven(conn, row):
            return "under_way"
        if row.generation != found.generation:
            return "again"  # somebody else redrove it since it was looked at
        _refuse(row, found, redrive_days)
        fault = _fault(macs, row, found)
        if fault is not None:
            # Whoever redrives is told at once.
            append(conn, EventType.ORDER_TAMPERED, {"fault": fault}, request_id=row.id)
            return fault
        _open(conn, row, found, principal=principal, reason=reason, pace=pace)
        return None

    while True:
        found = database.read(lambda conn: _look(conn, macs, request_id))
        if (stopped := database.write(work)) != "again":
            break
    if stopped in ("header", "chunk"):
        msg = (
            f"The {'order' if stopped == 'header' else 'dead letters'} of request {request_id} "
            "do not match their MACs, so nothing of it is sent; see docs/operations.md, "
            "`An order was changed`."
        )
        raise TamperedError(msg)
    if stopped is not None:
        resume_redrive(database, macs, request_id, pace=pace)
        return False
    make_due(database, macs, request_id, pace, fresh=True)
    return True


def resume_redrive(
    database: Database, macs: Macs, request_id: str, *, pace: Pace | None = None
) -> None:
    """Carry a redrive to its end that somebody else began; does nothing when there is none.

    Args:
        database: Where the ledger is.
        macs: As for `redrive`.
        request_id: The request.
        pace: How fast its chunks come due; None: as was said when it began.
    """
    known, latest = database.read(lambda conn: _how_far(conn, request_id))
    pace = pace or known
    pace.next_ns = max(pace.next_ns, latest + pace.interval_ns if pace.interval_ns else 0)
    make_due(database, macs, request_id, pace, fresh=False)


def abandoned(conn: Connection, *, limit: int) -> list[str]:
    """Give requests whose redrive nobody carries on: whoever began it was killed."""
    left = (
        select(chunk.c.id)
        .where(
            is_dead_letter(),
            chunk.c.project == request.c.project,
            chunk.c.request_id == request.c.id,
            chunk.c.generation < request.c.generation,
        )
        .exists()
    )
    return list(
        conn.execute(
            select(request.c.id)
            .where(
                request.c.state == RequestState.OPEN,
                request.c.finished_at.is_(None),
                request.c.touched_at < wall_us() - _ABANDONED_US,
                request.c.releasing == 1,
                request.c.cancelling == 0,
                request.c.generation > 1,
                left,
            )
            .limit(limit)
        ).scalars()
    )


# -- beginning ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The dead letters of a request as they were just before: how many, and is one whole."""

    generation: int
    chunks: int
    ids: int
    some_whole: bool


def _look(conn: Connection, macs: Macs, request_id: str) -> _Found:
    # Read apart: the rows of a large request would hold up everybody's writing.
    account_of_request(conn, request_id)
    row = conn.execute(select(request).where(request.c.id == request_id)).one()
    # Counted by the statement that reads them: between two another redrive may take them all, and
    # what is not there any more is not what was ordered either.
    counts = [
        select(what).where(of_request(row)).correlate(None).scalar_subquery().label(name)
        for name, what in (("all_chunks", func.count()), ("all_ids", func.sum(chunk.c.n)))
    ]
    rows = conn.execution_options(yield_per=CHUNKS_AT_ONCE).execute(
        select(chunk, *counts).where(of_request(row)).order_by(chunk.c.no)
    )
    chunks, ids, some_whole = 0, 0, False
    for one in rows:
        chunks, ids = one.all_chunks, int(one.all_ids)
        if some_whole := is_whole(macs, row, one):
            break
    rows.close()
    return _Found(generation=row.generation, chunks=chunks, ids=ids, some_whole=some_whole)


def _refuse(row: Row[Any], found: _Found, redrive_days: float) -> None:
    if row.state not in FINAL_REQUEST_STATES:
        msg = (
            f"Request {row.id} has not ended ({row.state}, generation {row.generation}); only the "
            "dead letters of one that has ended can be redriven."
        )
        raise ConflictError(msg)
    if row.scrub is not None:
        msg = (
            f"The ids of request {row.id} were taken out of the ledger (EXPUNGE_REDRIVE_DAYS after "
            "its end), so it cannot be redriven; hand its ids in as a new request."
        )
        raise ConflictError(msg)
    if row.cancelling:
        msg = f"Request {row.id} was cancelled, so nothing of it is sent again; hand it in anew."
        raise ConflictError(msg)
    if not found.chunks:
        msg = f"Request {row.id} has no dead letters; see `expunge status {row.id}`."
        raise ConflictError(msg)
    if wall_us() > row.finished_at + int(redrive_days * _DAY_US):
        msg = (
            f"Request {row.id} ended more than {redrive_days:g} days ago (EXPUNGE_REDRIVE_DAYS) "
            "and cannot be redriven any more; hand its ids in as a new request."
        )
        raise ConflictError(msg)


def _fault(macs: Macs, row: Row[Any], found: _Found) -> str | None:
    if not header_holds(macs, row):
        return "header"
    return None if found.some_whole else "chunk"


def _open(
    conn: Connection,
    row: Row[Any],
    found: _Found,
    *,
    principal: str,
    reason: str,
    pace: Pace,
) -> None:
    # A second look that is under way shows what was there before this generation's deletions.
    forget(conn, row.id)
    conn.execute(
        update(request)
        .where(request.c.id == row.id)
        .values(
            state=RequestState.OPEN,
            generation=row.generation + 1,
            result=None,
            certainty=None,
            finished_at=None,
            second_look_at=None,
            second_look=None,
            later=0,
            leftovers=0,
            not_checked=None,
            drawn=None,
            # What is still changed is found again.
            tampered=0,
            # Its chunks are not yet where they belong.
            releasing=1,
            touched_at=wall_us(),
        )
    )
    payload = {
        "principal": principal,
        "reason": reason,
        "generation": row.generation + 1,
        "chunks": found.chunks,
        "ids": found.ids,
        "interval_ns": pace.interval_ns,
    }
    append(conn, EventType.REQUEST_REDRIVEN, payload, request_id=row.id)


def _how_far(conn: Connection, request_id: str) -> tuple[Pace, int]:
    """Give the pace that was asked for, and when the last chunk made due so far comes due."""
    bodies = conn.execute(
        select(event_body.c.payload)
        .join(event, event.c.id == event_body.c.event)
        .where(event.c.request == request_id, event.c.type == EventType.REQUEST_REDRIVEN)
    ).scalars()
    latest = max(
        (json.loads(bytes(body)) for body in bodies),
        key=lambda body: body["generation"],
        default={"interval_ns": 0},
    )
    last = conn.execute(
        select(func.max(chunk.c.due_ns)).where(
            chunk.c.request_id == request_id,
            chunk.c.state == ChunkState.DUE,
            chunk.c.due_ns < FOREVER_NS,
        )
    ).scalar()
    return Pace(interval_ns=latest["interval_ns"]), last or 0
