"""A request's next step, once all its chunks are out: read back, judge, and end it.

Each step is a short transaction under the request's row lock and may be repeated, so drains and
the steward's sweep may both call it at any time, and a killed one loses nothing.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from ledger.counting import Tally
from ledger.crash_points import reached
from ledger.dead import is_being_redriven
from ledger.endings import Ending, look_back
from ledger.engine import Database
from ledger.finish import Ended, finish
from ledger.hunt import go_on
from ledger.leftovers import are_under_way
from ledger.macs import Macs
from ledger.policy import parse_verify
from ledger.readback import ReadbackPolicy
from ledger.reading import Reading
from ledger.release import note_returned
from ledger.schema import chunk, readback, request
from ledger.second_looks import judge_look
from ledger.states import ChunkState, Kind, RequestState, Sight
from ledger.tampering import note_tampered
from ledger.withdraw import await_probes, withdraw

__all__ = ["FEW_CHUNKS", "advance"]

FEW_CHUNKS: Final = 64
"""Whoever has calls to make may end a request of so many chunks: it takes some 10 ms."""

_CHUNKS_PER_STEP: Final = 200
_PROBE_AGAIN_S: Final = 5
# Rounds of "not found, and nobody can tell why" before a doubtful chunk is given up.
_MOST_DOUBTS: Final = 10
_NS: Final = 1_000_000_000
# Built once: what each step asks.
_LOCK: Final = (
    select(request).where(request.c.id == bindparam("request_id")).with_for_update(key_share=True)
)
_PROBED: Final = (
    select(chunk)
    .where(
        chunk.c.request_id == bindparam("of_request"),
        chunk.c.state == ChunkState.DUE,
        chunk.c.reading == 1,
        ~select(readback.c.id)
        .where(
            readback.c.request_id == bindparam("of_request"),
            readback.c.chunk_id == chunk.c.id,
            readback.c.state != "done",
        )
        .exists(),
    )
    .limit(_CHUNKS_PER_STEP)
)


def advance(
    database: Database,
    macs: Macs,
    request_id: str,
    *,
    policy: ReadbackPolicy,
    most_chunks: int | None = None,
    ending_of: Callable[[str], Ending] | None = None,
) -> Ended | None:
    """Take a request as many steps on as it can go without another call.

    Args:
        database: Where the ledger is.
        macs: Checks the order at its end, and makes the MACs of halves.
        request_id: The request.
        policy: How its read-backs go.
        most_chunks: Leave it open when it could end but was handed in as more chunks than this:
            going through them would hold up whoever has calls to make. The steward ends it.
        ending_of: Gathers what the record will say of its end (`ledger.endings`), which takes a
            while for many chunks; None does it here.

    Returns:
        How it ended, when this was its last step.

    Raises:
        LedgerError: The ledger did not confirm; calling again is safe.
    """

    def work(conn: Connection) -> str:
        said = _Step(conn, database, macs, request_id, policy=policy, most_chunks=most_chunks).run()
        reached("advance.before_commit")
        return said

    while True:
        started = time.monotonic()
        step = database.write(work)
        reached("advance.after_commit")
        if step == "pause" and database.is_sqlite:
            # Many such steps follow, and SQLite has one writer: leave the calls as much time.
            time.sleep(time.monotonic() - started)
        elif step not in ("again", "pause"):
            break
    if step == "look":
        judge_look(database, macs, request_id)
    if step == "over":
        # Read apart: a million ids' MACs would hold up everybody's writing.
        ending = (
            look_back(database.read, macs, request_id, policy)
            if ending_of is None
            else ending_of(request_id)
        )
        return database.write(
            lambda conn: finish(conn, request_id, second_look_s=policy.second_look_s, ending=ending)
        )
    return None


class _Step:
    """One step inside one transaction: says what is next.

    `again` and `pause`: another step; `wait`: calls are under way; `over`: it can end; `look`: it
    has ended, and its second look is under way; `large`: it could end, and has too many chunks.
    """

    def __init__(
        self,
        conn: Connection,
        database: Database,
        macs: Macs,
        request_id: str,
        *,
        policy: ReadbackPolicy,
        most_chunks: int | None,
    ) -> None:
        self._conn = conn
        self._macs = macs
        self._id = request_id
        self._policy = policy
        self._now = database.clock.now_ns(conn)
        self._most_chunks = most_chunks
        self._tally = Tally()
        self._most_sightings = policy.most_sightings

    def run(self) -> str:
        row = self._conn.execute(_LOCK, {"request_id": self._id}).first()
        if row is None:
            return "wait"
        said = self._next(row)
        if said == "over" and self._most_chunks is not None and row.chunks > self._most_chunks:
            return "large"
        return said

    def _next(self, row: Row[Any]) -> str:  # noqa: PLR0911 - the steps, a return each
        if row.second_look == "looking":
            return "look"
        if not _may_step(row) or is_being_redriven(self._conn, row):
            return "wait"
        if row.cancelling and (next_ := self._withdraw()) is not None:
            return next_
        if self._settle_probes(row):
            return "again"
        if go_on(self._conn, self._macs, self._id):
            # Of a held one too: the sweep parks what became due.
            note_returned(self._conn, [self._id])
            return "again"
        if row.state == RequestState.VERIFYING:
            # Whatever is due again already: what was read has to be judged to its end first.
            return self._reading(row).go_on()
        if row.kind != Kind.MEMORIES and are_under_way(self._conn, self._id):
            return "wait"
        if row.pending:
            return self._give_up_missing(row)
        return self._reading(row).start()

    def _reading(self, row: Row[Any]) -> Reading:
        return Reading(
            self._conn,
            self._macs,
            row,
            policy=self._policy,
            now_ns=self._now,
            most_sightings=self._most_sightings,
        )

    def _withdraw(self) -> str | None:
        """Take what is due of a cancelled request out of the line; None when nothing is."""
        # Nothing is sent again: what is seen still present stays so.
        self._most_sightings = 0
        if withdraw(self._conn, self._id):
            return "pause"
        return "wait" if await_probes(self._conn, self._id) else None

    # -- doubtful chunks --------------------------------------------------------------------------

    def _settle_probes(self, row: Row[Any]) -> bool:
        """Judge the doubtful chunks whose probes are all in; True when there was one."""
        waiting = self._conn.execute(_PROBED, {"of_request": self._id}).all()
        for one in waiting:
            self._settle_probed(row, one)
        self._tally.apply(self._conn)
        return bool(waiting)

    def _settle_probed(self, row: Row[Any], one: Row[Any]) -> None:
        probes = readback.c.chunk_id == one.id
        sights = set(self._conn.execute(select(readback.c.sight).where(probes)).scalars())
        self._conn.execute(delete(readback).where(probes))
        values: dict[str, Any] = {"reading": 0}
        if sights == {Sight.ABSENT}:
            # The doubtful call was applied, or somebody else's: deleted or already gone.
            over = parse_verify(row.verify_now).none
            values |= {
                "state": ChunkState.DONE if over else ChunkState.DELIVERED,
                "due_ns": 0,
                "was_absent": 1,
                "last_reason": "deleted_or_already_gone",
            }
            self._tally.move(self._id, one.n, out_of="pending", into="already_absent")
        elif Sight.PRESENT in sights:
            # It was not applied, so "not found" was about single ids: send it and bisect.
            values |= {"due_ns": 0, "doubtful": 0}
        elif one.burnt + 1 >= _MOST_DOUBTS:
            values |= {
                "state": ChunkState.DEAD,
                "due_ns": 0,
                "burnt": one.burnt + 1,
                "last_reason": "unverifiable",
            }
            self._tally.move(self._id, one.n, out_of="pending", into="unknown")
        else:
            values |= {"due_ns": self._now + _PROBE_AGAIN_S * _NS, "burnt": one.burnt + 1}
        self._conn.execute(update(chunk).where(chunk.c.id == one.id).values(values))

    # -- chunks that are gone ---------------------------------------------------------------------

    def _give_up_missing(self, row: Row[Any]) -> str:
        """Count ids as unknown whose chunk's row somebody deleted: no call will ever come."""
        live = self._conn.execute(
            select(chunk.c.id)
            .where(
                chunk.c.request_id == self._id,
                chunk.c.state.in_((ChunkState.DUE, ChunkState.LEASED)),
            )
            .limit(1)
        ).first()
        if live is not None:
            return "wait"
        self._tally.move(self._id, row.pending, out_of="pending", into="unknown")
        self._tally.apply(self._conn)
        note_tampered(self._conn, self._id, {"fault": "missing", "ids": row.pending})
        return "again"


def _may_step(row: Row[Any]) -> bool:
    if row.state == RequestState.SCHEDULED:
        return bool(row.cancelling)
    return row.state in (RequestState.OPEN, RequestState.VERIFYING)
