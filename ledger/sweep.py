"""The sweep: finds what a lost message, a killed process or a passing day left lying.

Every part is safe to run at any time and from several processes.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Table, func, or_, select, true, update

from ledger.advance import advance
from ledger.checks import may_delete
from ledger.clock import wall_us
from ledger.counting import Tally
from ledger.crash_points import reached
from ledger.disputes import given_up, to_be_read_back
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.finish import Ended
from ledger.host import require_own_clock
from ledger.hunt import ripe
from ledger.macs import Macs
from ledger.readback import ReadbackPolicy
from ledger.redrive import abandoned, resume_redrive
from ledger.release import note_returned, park_chunks, release_chunks
from ledger.schema import (
    FOREVER_NS,
    account,
    attempt,
    chunk,
    clock,
    lease,
    project,
    readback,
    request,
)
from ledger.second_looks import begin_looks, looked
from ledger.states import ChunkState, RequestState

__all__ = ["Swept", "follow_clock", "sweep"]

_LAPSED_AT_ONCE: Final = 200
_REQUESTS_AT_ONCE: Final = 100
_FARTHEST_APART_S: Final = 60.0
_GOLDEN: Final = (5**0.5 - 1) / 2
_RECEIVING_FOR_US: Final = 24 * 3_600 * 1_000_000


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What the sweep saw.

    Attributes:
        due: Work is waiting for a worker now.
        silent_s: Seconds since any worker claimed for an account that has work waiting; how long
            the doorbell has gone unanswered.
        lapsed: Leases that had run out and were taken back.
        ended: Requests that came to their end in this sweep.
        large: Ids of requests that may have come to their end, which is for `advance` to say, and
            takes its time: 0.16 s for each 100,000 ids.
    """

    due: bool
    silent_s: float
    lapsed: int
    ended: tuple[Ended, ...] = ()
    large: tuple[str, ...] = ()


def sweep(
    database: Database,
    macs: Macs,
    *,
    max_attempts: int,
    policy: ReadbackPolicy,
    most_chunks: int | None = None,
) -> Swept:
    """Take back lapsed leases, open what is scheduled, finish what is stuck, and look for work.

    Args:
        database: Where the ledger is.
        macs: Checks orders at their end.
        max_attempts: Calls that may count against a chunk.
        policy: How read-backs go.
        most_chunks: Requests that were handed in as more chunks than this are not ended here, but
            named: the sweep is the ledger's heartbeat, and must not wait for them.

    Raises:
        LedgerError: The ledger did not confirm; the next sweep does it.
    """
    follow_clock(database)
    lapsed = 0
    while some := database.write(lambda conn: _lapse(conn, database, max_attempts)):
        reached("sweep.after_commit")
        lapsed += some
    for request_id in database.read(lambda conn: abandoned(conn, limit=_REQUESTS_AT_ONCE)):
        resume_redrive(database, macs, request_id)
    for request_id in database.write(_open_scheduled) + database.read(_releasing):
        release_chunks(database, request_id)
    for request_id in database.read(_unparked):
        park_chunks(database, request_id)
    database.write(_cancel_stale)
    database.write(lambda conn: begin_looks(conn, now_ns=database.clock.now_ns(conn)))
    stuck = database.read(_stuck)
    ended = [
        advance(database, macs, request_id, policy=policy, most_chunks=most_chunks)
        for request_id in (*database.read(_withdrawing), *stuck, *database.read(looked))
    ]
    due, silent = database.read(lambda conn: _waiting(conn, database))
    return Swept(
        due=due,
        silent_s=silent,
        lapsed=lapsed,
        ended=tuple(one for one in ended if one is not None),
        large=tuple(
            request_id
            for request_id, chunks in stuck.items()
            if most_chunks is not None and chunks > most_chunks
        ),
    )


def follow_clock(database: Database) -> None:
    """Start anew when the ledger's clock did (SQLite after a reboot): no reading of before counts.

    Leases lapse, retries are due at once, and the first slot is one interval from now.

    Raises:
        OtherHostError: It did not start anew: another host set its own clock into the ledger.
    """
    known = database.read(lambda conn: conn.execute(select(clock.c.source)).scalar_one())
    if known != database.clock.source:
        database.write(lambda conn: _follow_clock(conn, database))
    database.followed = database.clock.source


def _follow_clock(conn: Connection, database: Database) -> None:
    require_own_clock(conn, database)
    known = conn.execute(select(clock.c.source)).scalar_one()
    if known == database.clock.source:
        return
    now = database.clock.now_ns(conn)
    for table in (chunk, readback):
        conn.execute(update(table).where(table.c.state == "leased").values(lease_until_ns=1))
        conn.execute(
            update(table)
            .where(table.c.state == "due", table.c.due_ns > 0, table.c.due_ns < FOREVER_NS)
            .values(due_ns=0)
        )
    conn.execute(
        update(account).values(
            next_slot_ns=now + account.c.interval_ns,
            leeway_until_ns=0,
            paused_until_ns=0,
            claimed_ns=now,
            halted_ns=0,
        )
    )
    conn.execute(update(project).values(open_until_ns=0, halted_ns=0))
    conn.execute(update(lease).values(until_ns=0))
    conn.execute(update(clock).values(source=database.clock.source))


def _lapse(conn: Connection, database: Database, max_attempts: int) -> int:
    """Take back some lapsed leases; the calls under them may have been applied."""
    now = database.clock.now_ns(conn)
    tally = Tally()
    dead = 0
    lapsed = [
        (table, row)
        for table in (chunk, readback)
        for row in conn.execute(
            select(table)
            .where(table.c.state == "leased", table.c.lease_until_ns <= now)
            .order_by(table.c.lease_until_ns)
            .limit(_LAPSED_AT_ONCE)
            .with_for_update(key_share=True, skip_locked=True)
        )
    ]
    read_back = to_be_read_back(conn, {row.request_id for table, row in lapsed if table is chunk})
    for table, row in lapsed:
        values: dict[str, Any] = {
            "state": "due",
            "lease_until_ns": 0,
            "burnt": row.burnt + 1,
            "last_reason": "lease_lapsed",
        }
        if table is chunk:
            values |= {"doubtful": 1, "due_ns": _apart_ns(row, now)}
            if row.burnt + 1 >= max_attempts:
                # It may be what kills the workers: no endless loop.
                values |= given_up(
                    leftover=row.leftover, bucket="unknown", read_back=row.request_id in read_back
                )
                n = 0 if row.leftover else row.n
                tally.move(row.request_id, n, out_of="pending", into="unknown")
                dead += 1
        elif row.burnt + 1 >= max_attempts:
            values |= {"state": "done", "sight": "unknown"}
        conn.execute(update(table).where(table.c.id == row.id).values(values))
        tally.add(row.request_id, "attempts")
        if table is chunk and values["state"] == "due":
            tally.add(row.request_id, "retried")
    tally.apply(conn)
    # After the requests, as `record` does: a late outcome may be closing the same attempt.
    for table, row in lapsed:
        which = attempt.c.chunk_id if table is chunk else attempt.c.readback_id
        conn.execute(
            update(attempt)
            .where(
                attempt.c.request_id == row.request_id,
                which == row.id,
                attempt.c.fence == row.fence,
                attempt.c.outcome.is_(None),
            )
            .values(outcome="unknown", reason="lease_lapsed")
        )
    reached("sweep.before_commit")
    note_returned(conn, {row.request_id for _, row in lapsed})
    if lapsed:
        append(conn, EventType.LEASES_LAPSED, {"calls": len(lapsed), "given_up": dead})
    return len(lapsed)


def _apart_ns(row: Row[Any], now: int) -> int:
    """Say when a chunk is due again after its lease has lapsed; 0 is at once.

    What was under way together comes back together at first. If one of them kills its process each
    time, the others must not be given up with it: from the second time on they come back apart, as
    evenly as multiples of the golden ratio lie, and farther apart each time.
    """
    if not row.burnt:
        return 0
    seconds = min(_FARTHEST_APART_S, 2.0**row.burnt)
    return now + int(seconds * 1e9 * (row.id * _GOLDEN % 1.0))


def _open_scheduled(conn: Connection) -> list[str]:
    now = wall_us()
    ids = list(
        conn.execute(
            select(request.c.id)
            .where(
                request.c.state == RequestState.SCHEDULED,
                request.c.finished_at.is_(None),
                request.c.not_before <= now,
                # A held one waits for its release, whatever its time; a cancelled one ends.
                request.c.held == 0,
                request.c.cancelling == 0,
            )
            .limit(_REQUESTS_AT_ONCE)
            .with_for_update(key_share=True, skip_locked=True)
        ).scalars()
    )
    if ids:
        conn.execute(
            update(request)
            .where(request.c.id.in_(ids))
            .values(state=RequestState.OPEN, releasing=1, touched_at=now)
        )
    return ids


def _releasing(conn: Connection) -> list[str]:
    return list(
        conn.execute(
            select(request.c.id).where(*_misplaced(held=0)).limit(_REQUESTS_AT_ONCE)
        ).scalars()
    )


def _unparked(conn: Connection) -> list[str]:
    """Held requests of which a chunk may stand in line."""
    return list(
        conn.execute(
            select(request.c.id).where(*_misplaced(held=1)).limit(_REQUESTS_AT_ONCE)
        ).scalars()
    )


def _misplaced(*, held: int) -> list[ColumnElement[bool]]:
    return [
        request.c.finished_at.is_(None),
        request.c.state.in_((RequestState.OPEN, RequestState.VERIFYING)),
        request.c.releasing == 1,
        request.c.held == held,
        request.c.cancelling == 0,
    ]


def _withdrawing(conn: Connection) -> list[str]:
    """Cancelled requests of which something is still to be taken out of the line."""
    due = (
        select(chunk.c.id)
        .where(chunk.c.request_id == request.c.id, chunk.c.state == ChunkState.DUE)
        .exists()
    )
    idle_probe = (
        select(readback.c.id)
        .where(
            readback.c.request_id == request.c.id,
            readback.c.state == "due",
            readback.c.purpose == "probe",
        )
        .exists()
    )
    return list(
        conn.execute(
            select(request.c.id)
            .where(
                request.c.finished_at.is_(None),
                request.c.state != RequestState.RECEIVING,
                request.c.cancelling == 1,
                # One that was scheduled has nothing under way, so it only has to end.
                or_(request.c.state == RequestState.SCHEDULED, due, idle_probe),
            )
            .limit(_REQUESTS_AT_ONCE)
        ).scalars()
    )


def _cancel_stale(conn: Connection) -> None:
    """Cancel streams that made no progress for a day: their sender is gone.

    Its key is free again: nothing was accepted under it.
    """
    now = wall_us()
    conn.execute(
        update(request)
        .where(
            request.c.state == RequestState.RECEIVING,
            request.c.finished_at.is_(None),
            request.c.touched_at < now - _RECEIVING_FOR_US,
        )
        .values(
            state=RequestState.CANCELLED,
            result="cancelled",
            finished_at=now,
            touched_at=now,
            idempotency_ref=None,
        )
    )


def _stuck(conn: Connection) -> dict[str, int]:
    """Requests that wait for no call and yet did not go on, with their number of chunks."""
    reading = (
        select(readback.c.id)
        .where(readback.c.request_id == request.c.id, readback.c.state != "done")
        .exists()
    )
    # A chunk's probes are forgotten when they are judged.
    probed = (
        select(readback.c.id)
        .where(readback.c.request_id == request.c.id, readback.c.purpose == "probe")
        .exists()
    )
    underway = (
        select(chunk.c.id)
        .where(
            chunk.c.request_id == request.c.id,
            chunk.c.state.in_((ChunkState.DUE, ChunkState.LEASED)),
        )
        .order_by(chunk.c.state, chunk.c.no)
        .limit(1)
        .scalar_subquery()
        .is_not(None)
    )
    rows = conn.execute(
        select(request.c.id, request.c.chunks)
        .where(
            request.c.state.in_((RequestState.OPEN, RequestState.VERIFYING)),
            request.c.finished_at.is_(None),
            or_(
                ripe(request.c.id),
                or_(request.c.state == RequestState.VERIFYING, probed, ~underway) & ~reading,
            ),
        )
        .limit(_REQUESTS_AT_ONCE)
    )
    return {row.id: row.chunks for row in rows}


def _waiting(conn: Connection, database: Database) -> tuple[bool, float]:
    now = database.clock.now_ns(conn)
    due = or_(
        _runnable(chunk, chunk.c.state == ChunkState.DUE, chunk.c.due_ns == 0, may_delete()),
        _runnable(
            chunk,
            chunk.c.state == ChunkState.DUE,
            chunk.c.due_ns > 0,
            chunk.c.due_ns <= now,
            may_delete(),
        ),
        _runnable(readback, readback.c.state == "due", readback.c.due_ns <= now),
    )
    claimed = conn.execute(
        select(func.min(account.c.claimed_ns))
        .select_from(account)
        .join(project, true())
        .where(
            account.c.paused == 0,
            account.c.paused_until_ns <= now,
            project.c.paused == 0,
            # A project that rests is nobody's fault: its work counts as waiting afterwards.
            project.c.open_until_ns <= now,
            due,
        )
    ).scalar()
    if claimed is None:
        return False, 0.0
    return True, max(0.0, (now - claimed) / 1_000_000_000)


def _runnable(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Is there such a row of the account and project, of a request that may go on?"""
    last = table.c.tag if table is chunk else table.c.due_ns
    order = (table.c.lane, table.c.urgency, last)
    return (
        select(table.c.id)
        .join(request, request.c.id == table.c.request_id)
        .where(
            table.c.account == account.c.name,
            table.c.project == project.c.name,
            *conditions,
            request.c.held == 0,
            request.c.finished_at.is_(None),
        )
        # Not EXISTS, and in the index's order: else PostgreSQL walks through the table.
        .order_by(*order)
        .limit(1)
        .scalar_subquery()
        .is_not(None)
    )
