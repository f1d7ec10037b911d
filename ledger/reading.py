"""Reading a request back: which look comes next, and what was seen.

By the list of its subject when that is known and everything is to be checked, or of the whole cube
where nothing else proves anything; else memory by memory, all of them or a sample. What is read
back by id is preceded by a list of nobody: MemOS says "not found" of an id also while its database
is away, but has no list then.
"""

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from ledger.clock import wall_us
from ledger.counting import Tally
from ledger.events import EventType, append
from ledger.judging import GROWTH, Verdict, judge_chunk
from ledger.leftovers import MOST_EVER, are_under_way, delete_by_id, still_there
from ledger.macs import Macs
from ledger.policy import parse_verify
from ledger.readback import ReadbackPolicy
from ledger.reads import (
    CHUNKS_PER_STEP,
    CONTROL,
    LIST,
    Read,
    all_of_disputed,
    are_outstanding,
    control_of,
    delivered,
    drawn,
    forget,
    next_reads,
    plan,
    shows,
    sights_by_chunk,
)
from ledger.release import note_returned
from ledger.schema import chunk, readback, request
from ledger.states import ChunkState, Kind, RequestState, Sight
from ledger.walks import Walk

__all__ = ["Reading"]

_NS: Final = 1_000_000_000
# Ids read beside the list of a user who was named for them.
_SPOT_CHECKS: Final = 3
# Of ids that were refused or never answered so many are read back where a sample is enough.
_MOST_DISPUTED: Final = 50


class Reading:
    """One step of a request's read-back, inside one transaction that holds the request's lock.

    `start` and `go_on` say what is next: `again` and `pause` another step, `wait` for calls, and
    `over` that the request can end.

    Args:
        conn: The transaction.
        macs: Makes the MACs of parts.
        row: Of the request, all columns.
        policy: How read-backs go.
        now_ns: The ledger's clock.
        most_sightings: How often something may be seen still there before it is given up.
    """

    def __init__(
        self,
        conn: Connection,
        macs: Macs,
        row: Row[Any],
        *,
        policy: ReadbackPolicy,
        now_ns: int,
        most_sightings: int,
    ) -> None:
        self._conn = conn
        self._macs = macs
        self._row = row
        self._id: str = row.id
        self._policy = policy
        self._now = now_ns
        self._most_sightings = most_sightings
        self._tally = Tally()

    def start(self) -> str:
        """Put the first reads in line, once every chunk is out."""
        if not delivered(self._conn, self._id, limit=1):
            return "over"
        by_list = self._by_list()
        sampled = not by_list and not parse_verify(self._row.verify_now).full
        if sampled and self._bury_disputed():
            return "pause"
        self._set_state(RequestState.VERIFYING)
        if by_list and not parse_verify(self._row.verify_now).full:
            # The list of a whole cube shows every id, so that nothing has to be drawn.
            self._note(verify_now="full")
        append(
            self._conn,
            EventType.REQUEST_VERIFYING,
            {"policy": self._row.verify_now, "by": "list" if by_list else "id"},
            request_id=self._id,
        )
        if by_list:
            self._plan([LIST, *self._spot_checks()])
        else:
            self._plan([CONTROL])
        return "wait"

    def go_on(self) -> str:
        """Judge what was seen, once all reads are in."""
        if are_outstanding(self._conn, self._id):
            return "wait"
        if self._by_list():
            return self._judge_list()
        if (control := control_of(self._conn, self._id)) is not None:
            return self._start_reads(control)
        if parse_verify(self._row.verify_now).full:
            return self._judge_reads()
        return self._judge_sample()

    def _by_list(self) -> bool:
        if self._row.project in self._policy.by_cube:
            return True
        full = parse_verify(self._row.verify_now).full
        return self._row.subject is not None and full and not self._row.by_id

    # -- by list ----------------------------------------------------------------------------------

    def _judge_list(self) -> str:
        rows = self._conn.execute(select(readback).where(readback.c.request_id == self._id)).all()
        seen = next((one for one in rows if one.kind == "list"), None)
        judged = delivered(self._conn, self._id, limit=CHUNKS_PER_STEP)
        if seen is None and judged:
            # Nothing is taken for gone that no list was seen without.
            self._plan([LIST, *self._spot_checks()])
            return "wait"
        if seen is None:
            return self._end_of_reading()
        walk = Walk.from_json(seen.seen) or Walk()
        if self._row.kind == Kind.MEMORIES and self._distrusts(seen, rows, walk):
            return self._read_by_id_instead()
        self._note(
            later=len(walk.later),
            not_checked=json.dumps(walk.unchecked) if walk.unchecked else None,
        )
        for one in judged:
            if self._row.kind != Kind.MEMORIES:
                self._judge_purge(one, Sight(seen.sight), walk)
                continue
            other = Sight.UNKNOWN if seen.sight == Sight.UNKNOWN else Sight.ABSENT
            ids = json.loads(one.ids)
            self._judge(one, [Sight.PRESENT if item in walk.present else other for item in ids])
        self._tally.apply(self._conn)
        if judged and self._row.kind == Kind.MEMORIES:
            return "again"
        forget(self._conn, self._id)
        return self._end_of_reading()

    def _judge_purge(self, one: Row[Any], sight: Sight, walk: Walk) -> None:
        if sight is not Sight.PRESENT or one.disputed == "refused":
            self._judge(one, [sight])
            return
        stuck = still_there(self._conn, self._row, walk.present)
        sightings = one.sightings + int(stuck)
        ever = self._row.leftovers + len(walk.present)
        apart = bool(walk.later) and not self._row.include_later
        if sightings > self._most_sightings or ever > MOST_EVER or (apart and not walk.present):
            # Sending it again would take with it what is not part of the order.
            self._judge(one, [sight], most_sightings=0)
        elif not walk.present:
            # Nobody says whose these are, so they cannot be deleted by id.
            self._judge(one, [sight])
        else:
            pause_s = self._pause_s * (GROWTH**one.sightings if stuck else 1)
            due_ns = self._now + int(pause_s * _NS)
            delete_by_id(self._conn, self._macs, self._row, one, walk.present, due_ns=due_ns)
            self._conn.execute(
                update(chunk).where(chunk.c.id == one.id).values(sightings=sightings)
            )
            self._tally.add(self._id, "retried")

    def _spot_checks(self) -> list[Read]:
        """Draw a few ids to read beside the list of the user who was named for them.

        Should that be the wrong user, the list shows none of them whatever became of them.
        """
        if self._row.kind != Kind.MEMORIES or self._row.project in self._policy.by_cube:
            return []
        return self._drawn(f"{self._id}/list", _SPOT_CHECKS)

    def _distrusts(self, seen: Row[Any], rows: Sequence[Row[Any]], walk: Walk) -> bool:
        """Say whether the list cannot tell, or an id is there that it does not show."""
        if self._row.project in self._policy.by_cube:
            return False
        if seen.sight == Sight.UNKNOWN:
            return True
        there = [one for one in rows if one.kind == "id" and one.sight == Sight.PRESENT]
        return any(shows(self._conn, one) not in walk.present for one in there)

    def _read_by_id_instead(self) -> str:
        forget(self._conn, self._id)
        self._note(by_id=1)
        self._set_state(RequestState.OPEN)
        append(self._conn, EventType.REQUEST_REOPENED, {"why": "list"}, request_id=self._id)
        return "again"

    # -- by id ------------------------------------------------------------------------------------

    def _start_reads(self, control: Row[Any]) -> str:
        """Read by id once the store is seen to answer: while it is away, reads say "not found"."""
        forget(self._conn, self._id)
        if parse_verify(self._row.verify_now).full:
            reads = next_reads(self._conn, self._id)
        else:
            sample = self._drawn(self._id, parse_verify(self._row.verify_now).sample or 0)
            self._note(drawn=len(sample))
            reads = [*sample, *all_of_disputed(self._conn, self._id)]
        if control.sight == Sight.ABSENT:
            self._plan(reads, pause_s=0.0)
            return "wait"
        self._plan(reads, sight=Sight.UNKNOWN)
        return "again"

    def _judge_reads(self) -> str:
        for one, sights in sights_by_chunk(self._conn, self._id):
            self._judge(one, sights)
        forget(self._conn, self._id)
        self._tally.apply(self._conn)
        if delivered(self._conn, self._id, limit=1):
            self._plan([CONTROL], pause_s=0.0)
            return "wait"
        return self._end_of_reading()

    def _judge_sample(self) -> str:
        reads = sights_by_chunk(self._conn, self._id)
        sample = [(one, sights) for one, sights in reads if not one.disputed]
        for one, sights in reads:
            if one.disputed:
                self._judge(one, sights)
        if any(Sight.PRESENT in sights for _, sights in sample):
            # One lie is enough to stop believing the answers of this request.
            self._tally.apply(self._conn)
            forget(self._conn, self._id)
            self._note(verify_now="full")
            self._set_state(RequestState.OPEN)
            append(self._conn, EventType.REQUEST_REOPENED, {"why": "sample"}, request_id=self._id)
            return "again"
        for one, sights in sample:
            was = "already_absent" if one.was_absent else "acknowledged"
            absent = sights.count(Sight.ABSENT)
            unknown = sights.count(Sight.UNKNOWN)
            if not one.was_absent:
                self._tally.move(self._id, absent, out_of=was, into="verified_absent")
            self._tally.move(self._id, unknown, out_of=was, into="unknown")
        self._tally.apply(self._conn)
        forget(self._conn, self._id)
        some = [one.id for one in delivered(self._conn, self._id, limit=CHUNKS_PER_STEP)]
        if some:
            self._conn.execute(
                update(chunk).where(chunk.c.id.in_(some)).values(state=ChunkState.DONE, reading=0)
            )
            return "again"
        return self._end_of_reading()

    def _bury_disputed(self) -> bool:
        """Read back some of many disputed ids only, as of the others; True when any went."""
        rows = self._conn.execute(
            select(chunk.c.id, chunk.c.n)
            .where(
                chunk.c.request_id == self._id,
                chunk.c.state == ChunkState.DELIVERED,
                chunk.c.disputed.is_not(None),
            )
            .order_by(chunk.c.no)
            .limit(_MOST_DISPUTED + CHUNKS_PER_STEP)
        ).all()
        ends = accumulate(each.n for each in rows)
        many = [one.id for one, end in zip(rows, ends, strict=True) if end > _MOST_DISPUTED]
        if many:
            self._conn.execute(
                update(chunk)
                .where(chunk.c.id.in_(many))
                .values(state=ChunkState.DEAD, disputed=None, reading=0)
            )
        return bool(many)

    # -- what follows -----------------------------------------------------------------------------

    def _judge(
        self, one: Row[Any], sights: Sequence[Sight], *, most_sightings: int | None = None
    ) -> None:
        judge_chunk(
            self._conn,
            self._macs,
            one,
            Verdict(sights=sights),
            tally=self._tally,
            now_ns=self._now,
            pause_s=self._pause_s,
            most_sightings=self._most_sightings if most_sightings is None else most_sightings,
        )

    @property
    def _pause_s(self) -> float:
        return max(1.0, self._policy.settle_s)

    def _end_of_reading(self) -> str:
        left = self._conn.execute(
            select(request.c.pending).where(request.c.id == self._id)
        ).scalar_one()
        leftovers = are_under_way(self._conn, self._id)
        if not left and not leftovers:
            return "over"
        self._set_state(RequestState.OPEN)
        why = "leftovers" if leftovers else "still_present"
        append(self._conn, EventType.REQUEST_REOPENED, {"why": why}, request_id=self._id)
        note_returned(self._conn, [self._id])
        return "wait"

    def _plan(
        self, reads: Sequence[Read], *, pause_s: float | None = None, sight: Sight | None = None
    ) -> None:
        """Put reads in line after a pause, by default the settle time; or say what they showed."""
        pause_s = self._policy.settle_s if pause_s is None else pause_s
        due_ns = self._now + int(pause_s * _NS)
        plan(self._conn, self._row, reads, due_ns=due_ns, sight=sight)

    def _drawn(self, label: str, size: int) -> list[Read]:
        generation = self._row.generation
        return drawn(self._conn, self._id, label=label, generation=generation, size=size)

    def _note(self, **values: Any) -> None:  # noqa: ANN401 - columns of the request
        self._conn.execute(update(request).where(request.c.id == self._id).values(values))

    def _set_state(self, state: RequestState) -> None:
        self._conn.execute(
            update(request)
            .where(request.c.id == self._id)
            .values(state=state, touched_at=wall_us())
        )
