"""A request's next step, once all its chunks are out: read back, judge, and end it.

Each step is a short transaction under the request's row lock and may be repeated, so drains and
the steward's sweep may both call it at any time, and a killed one loses nothing.

How a request is read back: the list of its subject when that is known and everything is to be
checked; else memory by memory, all of them or a sample.
"""

import json
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from ledger.clock import wall_us
from ledger.counting import Tally
from ledger.crash_points import reached
from ledger.dead import is_being_redriven
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.finish import Ended, chain_is_whole, finish
from ledger.hunt import go_on
from ledger.judging import Verdict, judge_chunk
from ledger.macs import Macs
from ledger.policy import draw, parse_verify
from ledger.release import note_returned
from ledger.schema import chunk, readback, request
from ledger.states import ChunkState, Kind, RequestState, Sight
from ledger.withdraw import await_probes, withdraw

if TYPE_CHECKING:
    from ledger.settings import Settings

__all__ = ["ReadbackPolicy", "advance"]

_CHUNKS_PER_STEP: Final = 200
_READS_PER_STEP: Final = 200
_PROBE_AGAIN_S: Final = 5
# Rounds of "not found, and nobody can tell why" before a doubtful chunk is given up.
_MOST_DOUBTS: Final = 10
_NS: Final = 1_000_000_000
_LIST: Final = {"kind": "list", "item": None, "chunk_id": None}


@dataclass(frozen=True, kw_only=True)
class ReadbackPolicy:
    """When to read back, and how often to delete again.

    Attributes:
        settle_s: Seconds between the last answer of a request and its read-back.
        most_sightings: How often something may be seen still there before it is given up.
        second_look_s: Seconds after a purge's end until the second look.
    """

    settle_s: float = 2.0
    most_sightings: int = 3
    second_look_s: float = 86_400.0

    @classmethod
    def of(cls, settings: "Settings") -> "ReadbackPolicy":
        """Give what the settings say."""
        return cls(settle_s=settings.settle_seconds, second_look_s=settings.second_look_seconds)


def advance(
    database: Database, macs: Macs, request_id: str, *, policy: ReadbackPolicy
) -> Ended | None:
    """Take a request as many steps on as it can go without another call.

    Returns:
        How it ended, when this was its last step.

    Raises:
        LedgerError: The ledger did not confirm; calling again is safe.
    """

    def work(conn: Connection) -> str:
        said = _Step(conn, database, macs, request_id, policy).run()
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
    if step == "over":
        # Read apart: a million ids' MACs would hold up everybody's writing.
        whole = database.read(lambda conn: chain_is_whole(conn, macs, request_id))
        return database.write(
            lambda conn: finish(conn, request_id, whole=whole, second_look_s=policy.second_look_s)
        )
    return None


class _Step:
    """One step inside one transaction: says `again`, `pause`, `wait` (for calls) or `over`."""

    def __init__(
        self,
        conn: Connection,
        database: Database,
        macs: Macs,
        request_id: str,
        policy: ReadbackPolicy,
    ) -> None:
        self._conn = conn
        self._macs = macs
        self._id = request_id
        self._policy = policy
        self._now = database.clock.now_ns(conn)
        self._tally = Tally()
        self._most_sightings = policy.most_sightings

    def run(self) -> str:  # noqa: PLR0911 - the steps, a return each
        row = self._conn.execute(
            select(request).where(request.c.id == self._id).with_for_update(key_share=True)
        ).first()
        if row is None or not _may_step(row) or is_being_redriven(self._conn, row):
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
            return self._go_on_reading(row)
        if row.pending:
            return self._give_up_missing(row)
        return self._start_reading(row)

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
        waiting = self._conn.execute(
            select(chunk)
            .where(
                chunk.c.request_id == self._id,
                chunk.c.state == ChunkState.DUE,
                chunk.c.reading == 1,
                ~select(readback.c.id)
                .where(
                    readback.c.request_id == self._id,
                    readback.c.chunk_id == chunk.c.id,
                    readback.c.state != "done",
                )
                .exists(),
            )
            .limit(_CHUNKS_PER_STEP)
        ).all()
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
        append(
            self._conn,
            EventType.ORDER_TAMPERED,
            {"fault": "missing", "ids": row.pending},
            request_id=self._id,
        )
        return "again"

    # -- reading back -----------------------------------------------------------------------------

    def _start_reading(self, row: Row[Any]) -> str:
        if not self._delivered(limit=1):
            return "over"
        self._set_state(RequestState.VERIFYING)
        append(
            self._conn,
            EventType.REQUEST_VERIFYING,
            {"policy": row.verify_now, "by": "list" if _by_list(row) else "id"},
            request_id=self._id,
        )
        if _by_list(row):
            self._plan([_LIST], row)
        elif not parse_verify(row.verify_now).full:
            self._plan(self._sample(row), row)
        else:
            self._plan(self._next_reads(), row)
        return "wait"

    def _go_on_reading(self, row: Row[Any]) -> str:
        outstanding = self._conn.execute(
            select(func.count())
            .select_from(readback)
            .where(readback.c.request_id == self._id, readback.c.state != "done")
        ).scalar_one()
        if outstanding:
            return "wait"
        if _by_list(row):
            return self._judge_list(row)
        if parse_verify(row.verify_now).full:
            return self._judge_reads(row)
        return self._judge_sample()

    def _judge_list(self, row: Row[Any]) -> str:
        seen = self._conn.execute(select(readback).where(readback.c.request_id == self._id)).first()
        judged = self._delivered(limit=_CHUNKS_PER_STEP)
        if seen is None and judged:
            # Nothing is taken for gone that no list was seen without.
            self._plan([_LIST], row)
            return "wait"
        if seen is None:
            return self._end_of_reading()
        ids = set(json.loads(seen.seen)) if seen.seen else set()
        for one in judged:
            if row.kind != Kind.MEMORIES:
                sights = [Sight(seen.sight)]
            elif seen.sight == Sight.UNKNOWN:
                sights = [Sight.UNKNOWN] * one.n
            else:
                sights = [
                    Sight.PRESENT if item in ids else Sight.ABSENT for item in json.loads(one.ids)
                ]
            self._judge(one, sights)
        self._tally.apply(self._conn)
        if judged:
            return "again"
        self._forget_reads()
        return self._end_of_reading()

    def _judge_reads(self, row: Row[Any]) -> str:
        for one, sights in self._read_chunks():
            self._judge(one, sights)
        self._forget_reads()
        self._tally.apply(self._conn)
        reads = self._next_reads()
        if reads:
            self._plan(reads, row)
            return "wait"
        return self._end_of_reading()

    def _judge_sample(self) -> str:
        reads = self._read_chunks()
        if any(Sight.PRESENT in sights for _, sights in reads):
            # One lie is enough to stop believing the answers of this request.
            self._forget_reads()
            self._conn.execute(
                update(request).where(request.c.id == self._id).values(verify_now="full")
            )
            self._set_state(RequestState.OPEN)
            append(self._conn, EventType.REQUEST_REOPENED, {"why": "sample"}, request_id=self._id)
            return "again"
        for one, sights in reads:
            was = "already_absent" if one.was_absent else "acknowledged"
            absent = sights.count(Sight.ABSENT)
            unknown = sights.count(Sight.UNKNOWN)
            if not one.was_absent:
                self._tally.move(self._id, absent, out_of=was, into="verified_absent")
            self._tally.move(self._id, unknown, out_of=was, into="unknown")
        self._tally.apply(self._conn)
        self._forget_reads()
        some = [one.id for one in self._delivered(limit=_CHUNKS_PER_STEP)]
        if some:
            self._conn.execute(
                update(chunk).where(chunk.c.id.in_(some)).values(state=ChunkState.DONE, reading=0)
            )
            return "again"
        return self._end_of_reading()

    def _judge(self, one: Row[Any], sights: Sequence[Sight]) -> None:
        judge_chunk(
            self._conn,
            self._macs,
            one,
            Verdict(sights=sights),
            tally=self._tally,
            now_ns=self._now,
            pause_s=max(1.0, self._policy.settle_s),
            most_sightings=self._most_sightings,
        )

    def _end_of_reading(self) -> str:
        left = self._conn.execute(
            select(request.c.pending).where(request.c.id == self._id)
        ).scalar_one()
        if not left:
            return "over"
        self._set_state(RequestState.OPEN)
        append(
            self._conn, EventType.REQUEST_REOPENED, {"why": "still_present"}, request_id=self._id
        )
        note_returned(self._conn, [self._id])
        return "wait"

    # -- which reads ------------------------------------------------------------------------------

    def _sample(self, row: Row[Any]) -> list[dict[str, Any]]:
        """Draw among the ids that were delivered, in the order of their places."""
        delivered = self._conn.execute(
            select(chunk.c.id, chunk.c.n)
            .where(chunk.c.request_id == self._id, chunk.c.state == ChunkState.DELIVERED)
            .order_by(chunk.c.first, chunk.c.no)
        ).all()
        drawn = draw(
            request_id=self._id,
            generation=row.generation,
            population=sum(one.n for one in delivered),
            size=parse_verify(row.verify_now).sample or 0,
        )
        reads = []
        ends = list(accumulate(one.n for one in delivered))
        for index in drawn:
            position = bisect_right(ends, index)
            one = delivered[position]
            item = index - (ends[position] - one.n)
            reads.append({"kind": "id", "item": item, "chunk_id": one.id})
        return reads

    def _next_reads(self) -> list[dict[str, Any]]:
        """Reads of the next delivered chunks, so many that there are 200 or one whole chunk."""
        reads: list[dict[str, Any]] = []
        for one in self._delivered(limit=_CHUNKS_PER_STEP):
            if reads and len(reads) + one.n > _READS_PER_STEP:
                break
            reads += [{"kind": "id", "item": item, "chunk_id": one.id} for item in range(one.n)]
        return reads

    def _plan(self, reads: Sequence[dict[str, Any]], row: Row[Any]) -> None:
        if not reads:
            return
        self._conn.execute(
            insert(readback),
            [
                {
                    "request_id": self._id,
                    "generation": row.generation,
                    "account": row.account,
                    "project": row.project,
                    "lane": row.lane,
                    "urgency": row.urgency,
                    "purpose": "verify",
                    "state": "due",
                    "due_ns": self._now + int(self._policy.settle_s * _NS),
                    **read,
                }
                for read in reads
            ],
        )

    def _read_chunks(self) -> list[tuple[Row[Any], list[Sight]]]:
        sights: dict[int, list[Sight]] = defaultdict(list)
        for read in self._conn.execute(
            select(readback.c.chunk_id, readback.c.sight)
            .where(readback.c.request_id == self._id, readback.c.purpose == "verify")
            .order_by(readback.c.chunk_id, readback.c.item)
        ):
            sights[read.chunk_id].append(Sight(read.sight))
        if not sights:
            return []
        rows = self._conn.execute(select(chunk).where(chunk.c.id.in_(list(sights)))).all()
        return [(one, sights[one.id]) for one in rows]

    def _delivered(self, *, limit: int) -> Sequence[Row[Any]]:
        return self._conn.execute(
            select(chunk)
            .where(
                chunk.c.request_id == self._id,
                chunk.c.state == ChunkState.DELIVERED,
            )
            .order_by(chunk.c.no)
            .limit(limit)
        ).all()

    def _forget_reads(self) -> None:
        # What they showed is judged; the attempts stay as the record of the calls.
        self._conn.execute(delete(readback).where(readback.c.request_id == self._id))

    def _set_state(self, state: RequestState) -> None:
        self._conn.execute(
            update(request)
            .where(request.c.id == self._id)
            .values(state=state, touched_at=wall_us())
        )


def _may_step(row: Row[Any]) -> bool:
    if row.state == RequestState.SCHEDULED:
        return bool(row.cancelling)
    return row.state in (RequestState.OPEN, RequestState.VERIFYING)


def _by_list(row: Row[Any]) -> bool:
    return row.subject is not None and parse_verify(row.verify_now).full
