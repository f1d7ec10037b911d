"""Making dead chunks due again: in short transactions, each with the counts of its own chunks.

Chunks are looked at before the transaction that changes them. In it, what is no longer dead is
left out, and what is not what was ordered stays dead and is told.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select, update

from ledger.clock import wall_us
from ledger.dead import CHUNKS_AT_ONCE, bucket_of, is_being_redriven, of_request
from ledger.engine import Database
from ledger.errors import RequestError
from ledger.macs import ChunkFields, Macs, same
from ledger.release import count_turns, park_chunks, place_in_line, release_chunks
from ledger.schema import chunk, request
from ledger.states import ChunkState, RequestState
from ledger.tampering import note_tampered

__all__ = ["Pace", "is_whole", "make_due"]

_NS: Final = 1_000_000_000
_LEAST_RATE: Final = 0.001
_MOST_RATE: Final = 10_000.0
# Far more than a person redrives one request; a changed number must not keep us busy for ever.
_MOST_GENERATIONS: Final = 1_000
_BUCKETS: Final = ("refused", "unknown", "still_present")


@dataclass(kw_only=True)
class Pace:
    """How fast chunks come due: one each `interval_ns`, or all at once when that is 0.

    One of these goes from request to request, so that many of them keep one rate together.
    """

    interval_ns: int = 0
    next_ns: int = 0

    @classmethod
    def of(cls, per_second: float | None) -> "Pace":
        """Give the pace of so many chunks a second, 0.001 to 10,000; None is all at once.

        Raises:
            RequestError: The rate is out of bounds.
        """
        if per_second is None:
            return cls()
        if not _LEAST_RATE <= per_second <= _MOST_RATE:
            msg = f"The rate must be from {_LEAST_RATE} to {_MOST_RATE:,.0f} chunks a second."
            raise RequestError(msg)
        return cls(interval_ns=round(_NS / per_second))


def make_due(database: Database, macs: Macs, request_id: str, pace: Pace, *, fresh: bool) -> None:
    """Take the dead letters of the generations before into this one, some at a time.

    Args:
        database: Where the ledger is.
        macs: Checks each chunk, and makes its MAC for the new generation.
        request_id: A request that was opened for it; does nothing when there is none left.
        pace: How fast they come due; it is moved on.
        fresh: Whether it was opened just now, and nobody can have held it before.
    """
    turns = database.read(lambda conn: count_turns(conn, request_id)) if fresh else None
    while True:
        # Apart: checking and making MACs takes longer than writing. Should an id be changed in
        # between, its chunk no longer matches the MAC made here, and is not sent.
        some = database.read(lambda conn: _prepare(conn, macs, request_id))
        step = database.write_bulk(
            lambda conn: _Step(conn, database, request_id, pace, some).run(turns)  # noqa: B023 - run at once
        )
        if step.over:
            break
        pace.next_ns = step.next_ns
    # Whoever held or released it meanwhile left its chunks to us; does nothing otherwise.
    release_chunks(database, request_id)
    park_chunks(database, request_id)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A dead chunk that was looked at; `mac` is for the generation given, None when tampered."""

    id: int
    n: int
    bucket: str
    sent: bool
    generation: int
    mac: bytes | None


@dataclass(frozen=True, kw_only=True)
class _Stepped:
    """What one transaction came to: is nothing left, and when the next chunk comes due."""

    over: bool
    next_ns: int


def _prepare(conn: Connection, macs: Macs, request_id: str) -> list[_Prepared]:
    row = conn.execute(select(request).where(request.c.id == request_id)).one()
    dead = conn.execute(
        select(chunk)
        .where(of_request(row), chunk.c.generation < row.generation)
        .order_by(chunk.c.no)
        .limit(CHUNKS_AT_ONCE)
    )
    return [
        _Prepared(
            id=one.id,
            n=one.n,
            bucket=bucket_of(one),
            sent=one.fence > 0,
            generation=row.generation,
            mac=macs.chunk(_fields(row, one, row.generation)) if is_whole(macs, row, one) else None,
        )
        for one in dead
    ]


class _Step:
    """Makes some dead chunks due inside one transaction; safe to run again from the start."""

    def __init__(
        self,
        conn: Connection,
        database: Database,
        request_id: str,
        pace: Pace,
        some: Sequence[_Prepared],
    ) -> None:
        self._conn = conn
        self._id = request_id
        self._some = some
        self._interval_ns = pace.interval_ns
        self._next_ns = max(pace.next_ns, database.clock.now_ns(conn)) if pace.interval_ns else 0
        self._changed: list[dict[str, Any]] = []
        self._pending = 0
        self._retried = 0

    def run(self, turns: int | None) -> _Stepped:
        row = self._conn.execute(select(request).where(request.c.id == self._id)).one()
        start = 0
        if self._some:
            # Before the request's lock, as whoever hands in does: the project's comes first.
            start = place_in_line(self._conn, row.project, row.account, row.lane, len(self._some))
        row = self._conn.execute(
            select(request).where(request.c.id == self._id).with_for_update(key_share=True)
        ).one()
        if row.state != RequestState.OPEN or not row.releasing or row.cancelling:
            return _Stepped(over=True, next_ns=self._next_ns)
        if not self._some and not is_being_redriven(self._conn, row):
            self._end(row, turns)
            return _Stepped(over=True, next_ns=self._next_ns)
        left = {name: getattr(row, name) for name in _BUCKETS}
        for place, one in enumerate(self._still_dead(row), start=start):
            self._take(row, one, place, left)
        self._write(row, left)
        return _Stepped(over=False, next_ns=self._next_ns)

    def _still_dead(self, row: Row[Any]) -> list[_Prepared]:
        """Leave out what somebody discarded or made due since it was looked at."""
        found = self._conn.execute(
            select(chunk.c.id)
            .where(
                of_request(row),
                chunk.c.generation < row.generation,
                chunk.c.id.in_([one.id for one in self._some]),
            )
            .with_for_update(key_share=True)
        ).scalars()
        still = set(found)
        return [one for one in self._some if one.id in still and one.generation == row.generation]

    def _end(self, row: Row[Any], turns: int | None) -> None:
        """Say that all chunks are where they belong, unless it was held in between."""
        if not row.held and turns == count_turns(self._conn, self._id):
            self._conn.execute(update(request).where(request.c.id == self._id).values(releasing=0))

    def _take(self, row: Row[Any], one: _Prepared, place: int, left: dict[str, int]) -> None:
        if one.mac is None or not self._move(one, left):
            # Under this generation's number it is passed over until somebody redrives it again.
            self._conn.execute(
                update(chunk)
                .where(chunk.c.id == one.id)
                .values(generation=row.generation, last_reason="tampered_chunk")
            )
            fault = {"fault": "chunk" if one.mac is None else "counts", "chunk": one.id}
            note_tampered(self._conn, row.id, fault, hold=False)
            return
        self._changed.append(
            {
                "row_id": one.id,
                "new_mac": one.mac,
                "new_tag": place,
                "new_due_ns": self._next_ns,
                # It may have been applied: "not found" then proves nothing about single ids.
                "new_doubtful": int(one.bucket == "unknown"),
                # Once: cancelled before its next call, it counts as what was seen of it.
                "new_sightings": int(one.bucket == "still_present"),
            }
        )
        self._next_ns += self._interval_ns
        self._retried += one.sent

    def _move(self, one: _Prepared, left: dict[str, int]) -> bool:
        """Take its ids out of the counts; False when these do not hold as many."""
        if sum(left.values()) < one.n:
            return False
        n = one.n
        # Not only out of its own: what tampering moved must not leave a count below zero.
        for name in sorted(_BUCKETS, key=lambda each: each != one.bucket):
            part = min(n, left[name])
            left[name] -= part
            n -= part
        self._pending += one.n
        return True

    def _write(self, row: Row[Any], left: dict[str, int]) -> None:
        if self._changed:
            self._conn.execute(
                update(chunk)
                .where(chunk.c.id == bindparam("row_id"))
                .values(
                    state=ChunkState.DUE,
                    generation=row.generation,
                    mac=bindparam("new_mac"),
                    tag=bindparam("new_tag"),
                    due_ns=bindparam("new_due_ns"),
                    doubtful=bindparam("new_doubtful"),
                    burnt=0,
                    sightings=bindparam("new_sightings"),
                    was_absent=0,
                    reading=0,
                    last_reason=None,
                    hunt=None,
                    waits_on=None,
                ),
                self._changed,
            )
        self._conn.execute(
            update(request)
            .where(request.c.id == row.id)
            .values(
                **left,
                pending=row.pending + self._pending,
                retried=row.retried + self._retried,
                # Whoever looks sees that somebody carries it on.
                touched_at=wall_us(),
            )
        )


def is_whole(macs: Macs, row: Row[Any], one: Row[Any]) -> bool:
    """Say whether a chunk is what was ordered, under its generation or one before.

    One that was passed over as tampered got the number of the generation that passed it over;
    when what was changed has been put back, its MAC holds under the number before.
    """
    highest = max(1, min(row.generation, _MOST_GENERATIONS))
    tries = dict.fromkeys((one.generation, *range(highest, 0, -1)))
    if not any(same(one.mac, macs.chunk(_fields(row, one, each))) for each in tries):
        return False
    # Under no MAC of its own, but the ids are: a wrong one would wreck the counts.
    whole: bool = one.n == (len(json.loads(one.ids)) or 1)
    return whole


def _fields(row: Row[Any], one: Row[Any], generation: int) -> ChunkFields:
    return ChunkFields(
        request_id=one.request_id,
        project=one.project,
        kind=row.kind,
        generation=generation,
        no=one.no,
        parent=one.parent,
        first=one.first,
        places=one.places,
        ids=one.ids,
    )
