"""What the doctor reads from a ledger, in one short look that changes nothing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, func, select

from ledger.checks import may_delete
from ledger.clock import wall_us
from ledger.dead import is_dead_letter
from ledger.engine import Database
from ledger.pauses import Pause, pauses
from ledger.schema import account, chunk, heartbeat, parked_message, project, request
from ledger.states import ChunkState, RequestState

__all__ = ["Beat", "LedgerFacts", "read_facts"]

_NS: Final = 1_000_000_000
_US: Final = 1_000_000
# Counting stops there: what matters is that there are some.
_MOST: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Beat:
    """The last sign of life of one process.

    Attributes:
        role: `steward` (each worker has one) or another.
        release: The version of Expunge that it runs.
        age_s: Seconds since.
    """

    role: str
    release: str
    age_s: float


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """How a ledger is.

    Attributes:
        skew_s: How far the database server's clock is ahead of this host's, in seconds; None for
            SQLite, which has no clock of its own.
        beats: Of the processes that were heard of within the last hour.
        pauses: What stands still.
        overdue: Requests past their due date that have not ended; at most 1,000 are counted, here
            and below.
        held: Requests that somebody holds, but for those that were tampered with.
        tampered: Requests that have not ended, of which something is not what was ordered.
        tampered_ended: Those that have, and still have their names.
        dead: Chunks that were given up and wait for a person.
        stale: Requests whose ids stopped coming in over an hour ago.
        parked: Queue messages that could not be an order.
        unclaimed_s: Seconds since anybody claimed for an account that has work due; None when
            nothing is due.
    """

    skew_s: float | None = None
    beats: Sequence[Beat] = ()
    pauses: Sequence[Pause] = ()
    overdue: int = 0
    held: int = 0
    tampered: int = 0
    tampered_ended: int = 0
    dead: int = 0
    stale: int = 0
    parked: int = 0
    unclaimed_s: float | None = None


def read_facts(database: Database) -> LedgerFacts:
    """Look at a ledger whose schema is this release's.

    Raises:
        LedgerError: It does not answer.
    """
    return database.read(lambda conn: _read(conn, database))


def _read(conn: Connection, database: Database) -> LedgerFacts:
    before = time.time_ns()
    now = database.clock.now_ns(conn)
    skew = None if database.is_sqlite else (now - (before + time.time_ns()) / 2) / _NS
    wall = wall_us()
    return LedgerFacts(
        skew_s=skew,
        beats=[
            Beat(role=row.role, release=row.release, age_s=(now - row.beat_ns) / _NS)
            for row in conn.execute(select(heartbeat))
        ],
        pauses=pauses(conn, database),
        overdue=_requests(conn, request.c.due_at < wall),
        held=_requests(conn, request.c.held == 1, request.c.tampered == 0),
        tampered=_requests(conn, request.c.tampered == 1),
        tampered_ended=_count(
            conn,
            select(request.c.id).where(
                request.c.tampered == 1,
                request.c.finished_at.is_not(None),
                request.c.scrubbed_at.is_(None),
            ),
        ),
        dead=_count(conn, select(chunk.c.request_id).where(is_dead_letter())),
        stale=_requests(
            conn,
            request.c.state == RequestState.RECEIVING,
            request.c.touched_at < wall - 3_600 * _US,
        ),
        parked=_count(conn, select(parked_message.c.id)),
        unclaimed_s=_unclaimed(conn, now),
    )


def _requests(conn: Connection, *conditions: ColumnElement[bool]) -> int:
    return _count(conn, select(request.c.id).where(request.c.finished_at.is_(None), *conditions))


def _count(conn: Connection, query: Select[str]) -> int:
    counted = select(func.count()).select_from(query.limit(_MOST).subquery())
    return int(conn.execute(counted).scalar_one())


def _unclaimed(conn: Connection, now: int) -> float | None:
    """Find the account that waits longest for somebody to claim its due chunks."""
    waits = []
    owners = select(project.c.name, account.c.name.label("account"), account.c.claimed_ns).where(
        project.c.account == account.c.name,
        project.c.paused == 0,
        project.c.open_until_ns <= now,
        account.c.paused == 0,
        account.c.paused_until_ns <= now,
    )
    for owner in conn.execute(owners).all():
        due = (
            select(chunk.c.id)
            .join(request, request.c.id == chunk.c.request_id)
            .where(
                chunk.c.account == owner.account,
                chunk.c.project == owner.name,
                chunk.c.state == ChunkState.DUE,
                chunk.c.due_ns == 0,
                request.c.held == 0,
                request.c.finished_at.is_(None),
                may_delete(),
            )
            # In the index's order: else the database walks through the table.
            .order_by(chunk.c.lane, chunk.c.urgency, chunk.c.tag)
            .limit(1)
        )
        if conn.execute(due).first() is not None:
            waits.append((now - owner.claimed_ns) / _NS)
    return max(waits, default=None)
