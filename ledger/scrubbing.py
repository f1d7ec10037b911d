"""Forgetting: names leave the work tables once nobody needs them to carry anything out.

After its end and the days in which it can be redriven a request is *scrubbed*: its user id, its
memory ids and its salt go, and with them everything that a keyed digest of them is. What was never
accepted is scrubbed at once. Later the rows of its chunks and calls go too, and the request's own
row stays: counts, states, times, and keyed references that end with their key.

Bounded steps, safe to run again: a request says itself how far it is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, or_, select, tuple_, update

from ledger.acting import lock_request
from ledger.checks import header_fields, header_holds
from ledger.clock import wall_us
from ledger.closing import chain_is_whole
from ledger.crash_points import reached
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.macs import Macs
from ledger.reads import forget
from ledger.schema import attempt, chunk, readback, request
from ledger.states import ChunkState
from ledger.tampering import note_tampered

__all__ = ["Scrubbed", "scrub", "truncate_wal"]

_DAY_US: Final = 86_400_000_000
_AT_ONCE: Final = 100
_CHUNKS: Final = 200
_ROWS: Final = 500
_BUSY_MS: Final = 200
_OUR_BUSY_MS: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Scrubbed:
    """What a round did.

    Attributes:
        scrubbed: Ids of requests whose names are out now.
        dead: Dead letters (chunks) that nobody redrove or discarded, and that went with them.
        stripped: Requests of which only their own row is left now.
        more: There is more to do; come again soon.
    """

    scrubbed: tuple[str, ...] = ()
    dead: int = 0
    stripped: int = 0
    more: bool = False


def scrub(
    database: Database,
    macs: Macs,
    *,
    redrive_days: float,
    row_days: float,
    budget_s: float = 0.5,
    monotonic: Callable[[], float] = time.monotonic,
) -> Scrubbed:
    """Scrub what is due, for about `budget_s` seconds.

    Args:
        database: Where the ledger is.
        macs: Vouches for what is left of a request.
        redrive_days: Days after its end that a request keeps its names.
        row_days: Days after its end that the rows of its chunks and calls are kept.
        budget_s: When to leave the rest to the next round, in seconds.
        monotonic: A clock in seconds.

    Raises:
        LedgerError: The ledger did not confirm; the next round goes on.
    """
    until = monotonic() + budget_s
    now = wall_us()
    due = database.read(lambda conn: _due(conn, now - int(redrive_days * _DAY_US)))
    done: list[str] = []
    dead = 0
    for request_id in due:
        while (left := _step(database, macs, request_id)) is None:
            if monotonic() > until:
                return Scrubbed(scrubbed=tuple(done), dead=dead, more=True)
        done.append(request_id)
        dead += left
    bare = database.read(lambda conn: _to_strip(conn, now - int(row_days * _DAY_US)))
    stripped = 0
    for request_id in bare:
        while not database.write_bulk(lambda conn: _strip(conn, request_id)):  # noqa: B023 - run at once
            if monotonic() > until:
                return Scrubbed(scrubbed=tuple(done), dead=dead, stripped=stripped, more=True)
        stripped += 1
    return Scrubbed(
        scrubbed=tuple(done),
        dead=dead,
        stripped=stripped,
        more=_AT_ONCE in (len(due), len(bare)),
    )


def truncate_wal(database: Database) -> bool:
    """Empty SQLite's write-ahead log, in which old pages stand until they are written over.

    Returns:
        False while somebody reads or writes; try again later. True on PostgreSQL, where old rows
        go by VACUUM.
    """
    if not database.is_sqlite:
        return True
    connection = database.engine.raw_connection()
    try:
        cursor = connection.cursor()
        # Waiting for readers keeps all writers out.
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {_OUR_BUSY_MS}")
        cursor.close()
    finally:
        connection.close()
    return not busy


# -- names ----------------------------------------------------------------------------------------


def _due(conn: Connection, ended_before: int) -> list[str]:
    query = (
        select(request.c.id)
        .where(
            request.c.scrubbed_at.is_(None),
            request.c.finished_at.is_not(None),
            or_(
                request.c.finished_at <= ended_before,
                # Never accepted, so there is nothing that could be redriven.
                request.c.closing_mac.is_(None),
                request.c.scrub == "begun",
            ),
            # Its list is under way, and names the subject.
            func.coalesce(request.c.second_look, "") != "looking",
        )
        .order_by(request.c.finished_at)
        .limit(_AT_ONCE)
    )
    return list(conn.execute(query).scalars())


def _step(database: Database, macs: Macs, request_id: str) -> int | None:
    """Take a request one bounded step on; gives its dead letters once it is done."""
    begun = database.read(
        lambda conn: conn.execute(
            select(request.c.scrub).where(request.c.id == request_id)
        ).scalar_one()
    )
    if begun is None:
        whole = _is_whole(database, macs, request_id)
        database.write(lambda conn: _begin(conn, macs, request_id, whole=whole))
        reached("scrub.after_begin")
        return None
    if database.write_bulk(lambda conn: _blank(conn, request_id)):
        reached("scrub.after_chunks")
        return None
    return database.write(lambda conn: _end(conn, request_id))


def _is_whole(database: Database, macs: Macs, request_id: str) -> bool:
    accepted = database.read(
        lambda conn: conn.execute(
            select(request.c.closing_mac).where(request.c.id == request_id)
        ).scalar_one()
    )
    return accepted is None or chain_is_whole(database.read, macs, request_id)


def _begin(conn: Connection, macs: Macs, request_id: str, *, whole: bool) -> None:
    row = lock_request(conn, request_id)
    if row.finished_at is None or row.scrub is not None:
        return  # redriven since, or somebody else began
    whole = whole and header_holds(macs, row)
    bare = {**row._mapping, "subject": None, "salt": b""}  # noqa: SLF001 - SQLAlchemy's name
    values: dict[str, Any] = {
        "scrub": "begun",
        "subject": None,
        "salt": b"",
        "traceparent": None,
        # Of what somebody changed it stays wrong, and `expunge audit verify` goes on saying so.
        "header_mac": macs.header(header_fields(bare)) if whole else row.header_mac,
        # A keyed digest of what was asked for; needed only to compare what comes under its key.
        "fingerprint": "" if row.idempotency_ref is None else row.fingerprint,
    }
    if not whole and not row.tampered:
        note_tampered(conn, row.id, {"fault": "closing"})
    if row.second_look_at is not None and row.second_look is None:
        # Too late: nobody knows any more whom to look for.
        values["second_look"] = "unknown"
    conn.execute(update(request).where(request.c.id == row.id).values(values))


def _blank(conn: Connection, request_id: str) -> int:
    """Take the ids out of some chunks; gives how many still had some."""
    some = (
        select(chunk.c.id)
        .where(chunk.c.request_id == request_id, chunk.c.mac != b"")
        .limit(_CHUNKS)
    )
    ids = conn.execute(some).scalars().all()
    if ids:
        conn.execute(
            update(chunk).where(chunk.c.id.in_(ids)).values(ids="[]", places=None, mac=b"")
        )
    return len(ids)


def _end(conn: Connection, request_id: str) -> int:
    forget(conn, request_id)  # what lists showed is in their rows
    dead = (
        chunk.c.request_id == request_id,
        chunk.c.state == ChunkState.DEAD,
        chunk.c.discarded == 0,
    )
    row: Row[Any] = lock_request(conn, request_id)
    if row.scrub != "begun":
        return 0
    chunks = select(func.count()).where(chunk.c.request_id == request_id)
    payload = {
        "generation": row.generation,
        "chunks": conn.execute(chunks).scalar_one(),
        "dead": conn.execute(update(chunk).where(*dead).values(discarded=1)).rowcount,
        "whole": not row.tampered,
    }
    append(conn, EventType.REQUEST_SCRUBBED, payload, request_id=request_id)
    done = {"scrub": "done", "scrubbed_at": wall_us()}
    conn.execute(update(request).where(request.c.id == request_id).values(done))
    return int(payload["dead"])


# -- rows -----------------------------------------------------------------------------------------


def _to_strip(conn: Connection, ended_before: int) -> list[str]:
    query = (
        select(request.c.id)
        .where(
            request.c.bare == 0,
            request.c.scrubbed_at.is_not(None),
            request.c.finished_at <= ended_before,
        )
        .order_by(request.c.finished_at)
        .limit(_AT_ONCE)
    )
    return list(conn.execute(query).scalars())


def _strip(conn: Connection, request_id: str) -> bool:
    """Delete some rows about a request; True when only its own is left."""
    calls = (
        select(attempt.c.claim, attempt.c.place)
        .where(attempt.c.request_id == request_id)
        .limit(_ROWS)
    )
    if found := conn.execute(calls).all():
        names = [(row.claim, row.place) for row in found]
        conn.execute(delete(attempt).where(tuple_(attempt.c.claim, attempt.c.place).in_(names)))
        return False
    chunks = select(chunk.c.id).where(chunk.c.request_id == request_id).limit(_ROWS)
    if ids := conn.execute(chunks).scalars().all():
        conn.execute(delete(chunk).where(chunk.c.id.in_(ids)))
        return False
    conn.execute(delete(readback).where(readback.c.request_id == request_id))
    conn.execute(update(request).where(request.c.id == request_id).values(bare=1))
    return True
