"""Recording what became of calls: one transaction for many, each write under its fencing token.

A worker that lost its lease (it was stopped, or cut off) still comes back with an outcome. Its
token is old by then: the attempt is recorded as stale, and nothing else is changed.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, insert, or_, select, update

from ledger.among import among
from ledger.attempts import close_attempts
from ledger.canonical import canonical
from ledger.counting import Tally
from ledger.crash_points import reached
from ledger.disputes import given_up, is_read_back
from ledger.divide import divide
from ledger.engine import Database
from ledger.errors import LedgerError
from ledger.events import EventType, append
from ledger.hunt import halves, ripe
from ledger.insert import update_all
from ledger.macs import Macs
from ledger.policy import draw
from ledger.release import note_returned
from ledger.repeats import unrecorded
from ledger.schema import FOREVER_NS, chunk, readback, request
from ledger.states import ChunkState, RequestState
from ledger.stops import stop
from ledger.tasks import (
    Dead,
    Delivered,
    Page,
    Probe,
    Retry,
    Seen,
    Settlement,
    Split,
    Unsent,
)
from ledger.walks import Walk

__all__ = ["PROBES", "record"]

PROBES: Final = 3
_NS: Final = 1_000_000_000
_MOST_CODE: Final = 2**53

# Built once: what each record asks and writes.
_POLICY: Final = (
    select(request.c.verify_now).where(request.c.id == chunk.c.request_id).scalar_subquery()
)
# By key and in its order. Not by the state: an index by leases holds each old one until a vacuum.
_OWN: Final = {
    table: select(table.c.id, table.c.fence, table.c.state, *more)
    .where(among(table.c.id, "row_ids"))
    .order_by(table.c.id)
    .with_for_update(key_share=True, of=table)
    for table, more in (
        (chunk, (chunk.c.request_id, _POLICY.label("verify_now"))),
        (readback, ()),
    )
}
_TABLES: Final = {table.name: table for table in (chunk, readback)}
_WRITE_ALIKE: Final = {
    table.name: update(table).where(among(table.c.id, "row_ids")) for table in (chunk, readback)
}
_READY: Final = select(request.c.id).where(
    among(request.c.id, "touched"),
    or_(
        request.c.cancelling == 1,
        and_(
            among(request.c.id, "moved"),
            or_(
                request.c.pending == 0,
                request.c.state == RequestState.VERIFYING,
                ripe(request.c.id),
            ),
        ),
    ),
    or_(request.c.finished_at.is_(None), request.c.second_look == "looking"),
)


def record(database: Database, macs: Macs, settlements: Sequence[Settlement]) -> list[str]:
    """Write outcomes, counts, pauses and one event, all or nothing.

    Args:
        database: Where the ledger is.
        macs: Makes the MACs of halves.
        settlements: What became of claimed tasks, each task once.

    Returns:
        Ids of requests that may have come to their next step (`ledger.advance`).

    Raises:
        LedgerError: The ledger did not confirm; recording the same again is safe.
    """
    if not settlements:
        return []

    def work(conn: Connection) -> list[str]:
        fresh = unrecorded(conn, settlements) if database.doubtful else settlements
        return _Recording(conn, database, macs).run(fresh, touched=settlements)

    try:
        ready = database.write(work)
        reached("record.after_commit")
    except LedgerError:
        # It may be there all the same: who records the same again looks first.
        database.doubtful = True
        raise
    return ready


class _Recording:
    """One batch of outcomes inside one transaction."""

    def __init__(self, conn: Connection, database: Database, macs: Macs) -> None:
        self._conn = conn
        self._database = database
        self._macs = macs
        self._now = 0
        self._tally = Tally()
        self._stale: set[tuple[str, int]] = set()
        self._read_back: set[str] = set()
        # What is still leased under the settlement's token: table, row and token.
        self._own: set[tuple[str, int | None, int]] = set()
        # Rows to write, by table and the names of the columns that change.
        self._writes: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        self._to_halve: list[tuple[int | None, bool]] = []
        self._to_probe: list[int | None] = []

    def run(self, settlements: Sequence[Settlement], *, touched: Sequence[Settlement]) -> list[str]:
        """Record `settlements`; `touched` are those and what was recorded before."""
        if not settlements:
            return self._ready(touched)
        # Locks in one order everywhere: accounts, projects, chunks and read-backs, requests.
        self._now = stop(self._conn, self._database, settlements)
        self._find_own(settlements)
        for settled in settlements:
            kept = (
                self._settle_chunk(settled)
                if settled.task.readback_id is None
                else self._settle_readback(settled)
            )
            if not kept:
                # Counted when its lease lapsed, or when it was recorded the first time.
                self._stale.add((settled.task.claim, settled.task.place))
            elif not isinstance(settled.move, Unsent):
                self._tally.add(settled.task.request_id, "attempts")
        self._write()
        self._tally.apply(self._conn)
        for chunk_id, hunt in self._to_halve:
            self._halve(chunk_id, hunt=hunt)
        for chunk_id in self._to_probe:
            self._plan_probes(chunk_id)
        returned = {s.task.request_id for s in settlements if isinstance(s.move, Retry | Unsent)}
        note_returned(self._conn, returned)
        self._close_attempts(settlements)
        self._append_event(settlements)
        reached("record.before_commit")
        return self._ready(touched)

    # -- fences -----------------------------------------------------------------------------------

    def _find_own(self, settlements: Sequence[Settlement]) -> None:
        """Lock the rows that the outcomes are about, and see whose leases still hold.

        Notes on the way which requests' deletions are read back.
        """
        for table, ids in (
            (chunk, {s.task.chunk_id for s in settlements if s.task.readback_id is None}),
            (readback, {s.task.readback_id for s in settlements if s.task.readback_id is not None}),
        ):
            if not ids:
                continue
            rows = self._conn.execute(_OWN[table], {"row_ids": list(ids)}).all()
            leased = {(table.name, row.id, row.fence) for row in rows if row.state == "leased"}
            self._own |= leased
            if table is chunk:
                policies = {row.request_id: row.verify_now for row in rows}
                self._read_back = {one for one in policies if is_read_back(policies[one])}

    def _settle(self, table: Table, row_id: int | None, fence: int, values: dict[str, Any]) -> bool:
        """Note what becomes of a row, if its lease still holds; says whether it does."""
        own = (table.name, row_id, fence)
        if own not in self._own:
            return False
        self._own.remove(own)
        self._writes[table.name, *values].append({"row_id": row_id, **values})
        return True

    def _write(self) -> None:
        for (name, *columns), rows in self._writes.items():
            values = {column: rows[0][column] for column in columns}
            if all(row == {**values, "row_id": row["row_id"]} for row in rows):
                alike = {"row_ids": [row["row_id"] for row in rows], **values}
                self._conn.execute(_WRITE_ALIKE[name], alike)
            else:
                update_all(self._conn, _TABLES[name], rows)

    # -- chunks -----------------------------------------------------------------------------------

    def _settle_chunk(self, settled: Settlement) -> bool:
        task, move = settled.task, settled.move
        n = 0 if task.leftover else task.n or 1
        into, values = self._chunk_values(settled)
        if not self._settle(chunk, task.chunk_id, task.fence, values):
            return False
        self._tally.move(task.request_id, n, out_of="pending", into=into)
        if isinstance(move, Retry):
            self._tally.add(task.request_id, "retried")
        # Both need the request's row, which comes after all chunks in the order of locks.
        if isinstance(move, Split):
            self._to_halve.append((task.chunk_id, move.hunt))
        if isinstance(move, Probe):
            self._to_probe.append(task.chunk_id)
        return True

    def _chunk_values(self, settled: Settlement) -> tuple[str, dict[str, Any]]:
        """Give the count its ids are under from here on, and what its row becomes."""
        task, move = settled.task, settled.move
        due = {"last_reason": settled.reason, "lease_until_ns": 0, "state": ChunkState.DUE}
        match move:
            case Delivered():
                over = task.leftover or task.request_id not in self._read_back
                return "already_absent" if move.was_absent else "acknowledged", due | {
                    "state": ChunkState.DONE if over else ChunkState.DELIVERED,
                    "was_absent": int(move.was_absent),
                    "burnt": 0,
                    # An answer at last: should it be seen still present, that is known for sure.
                    "doubtful": 0,
                }
            case Dead():
                read_back = task.request_id in self._read_back
                up = given_up(leftover=task.leftover, bucket=move.bucket, read_back=read_back)
                return move.bucket, due | up | {"burnt": task.burnt + 1}
            case Retry():
                return "pending", due | {
                    "due_ns": self._now + int(move.delay_s * _NS),
                    "burnt": task.burnt + int(move.burn),
                    "doubtful": int(task.doubtful or move.doubtful),
                }
            case Probe() if task.n and not task.leftover:
                return "pending", due | {"due_ns": FOREVER_NS, "reading": 1}
            case Unsent():
                return "pending", {"state": ChunkState.DUE, "due_ns": 0, "lease_until_ns": 0}
            case Split() if task.n > 1:
                return "pending", {"last_reason": settled.reason}
            case _:
                msg = f"{type(move).__name__} is no move of a chunk of {task.n} ids"
                raise AssertionError(msg)

    def _halve(self, chunk_id: int | None, *, hunt: bool) -> None:
        parent = self._conn.execute(select(chunk).where(chunk.c.id == chunk_id)).one()
        parts = halves(parent)
        if not hunt:
            # Too large, not wrong: both are sent.
            parts = [replace(part, due_ns=0, hunt=None, waits_for=None) for part in parts]
        divide(self._conn, self._macs, [parent], parts)

    def _plan_probes(self, chunk_id: int | None) -> None:
        row = self._conn.execute(select(chunk).where(chunk.c.id == chunk_id)).one()
        items = draw(
            request_id=f"{row.request_id}/{row.no}",
            generation=row.generation,
            population=row.n,
            size=PROBES,
        )
        self._conn.execute(
            insert(readback),
            [
                {
                    "request_id": row.request_id,
                    "generation": row.generation,
                    "chunk_id": row.id,
                    "account": row.account,
                    "project": row.project,
                    "lane": row.lane,
                    "urgency": row.urgency,
                    "kind": "id",
                    "purpose": "probe",
                    "item": item,
                    "state": "due",
                    "due_ns": self._now,
                }
                for item in items
            ],
        )

    # -- read-backs -------------------------------------------------------------------------------

    def _settle_readback(self, settled: Settlement) -> bool:
        task, move = settled.task, settled.move
        values: dict[str, Any] = {"last_reason": settled.reason, "lease_until_ns": 0}
        match move:
            case Seen():
                values |= {"state": "done", "sight": move.sight, "seen": _stored(move.walk)}
            case Page():
                values |= {
                    "state": "due",
                    "due_ns": self._now,
                    "page": move.walk.page,
                    "seen": _stored(move.walk),
                    "burnt": 0,
                }
            case Retry():
                values |= {
                    "state": "due",
                    "due_ns": self._now + int(move.delay_s * _NS),
                    "burnt": task.burnt + int(move.burn),
                }
            case Unsent():
                values |= {"state": "due", "due_ns": self._now}
            case _:
                msg = f"{type(move).__name__} is no move of a read-back"
                raise AssertionError(msg)
        return self._settle(readback, task.readback_id, task.fence, values)

    # -- the record -------------------------------------------------------------------------------

    def _close_attempts(self, settlements: Sequence[Settlement]) -> None:
        rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for settled in settlements:
            task = settled.task
            late = (task.claim, task.place) in self._stale
            rows[late].append(
                {
                    "of_claim": task.claim,
                    "at_place": task.place,
                    "outcome": settled.outcome,
                    "reason": settled.reason,
                    "http_status": settled.http_status,
                    "code": _code(settled),
                    "took_us": settled.took_us,
                    "stale": int(late),
                }
            )
        for late, some in rows.items():
            if some:
                close_attempts(self._conn, some, late=late)

    def _append_event(self, settlements: Sequence[Settlement]) -> None:
        digest = hashlib.sha256()
        for settled in settlements:
            line = [
                settled.task.claim,
                settled.task.place,
                settled.outcome,
                settled.reason,
                settled.http_status,
                _code(settled),
                (settled.task.claim, settled.task.place) in self._stale,
            ]
            digest.update(canonical(line) + b"\n")
        append(
            self._conn,
            EventType.CALLS_OUTCOME,
            {
                "calls": len(settlements),
                "stale": len(self._stale),
                "outcomes": dict(sorted(Counter(s.outcome for s in settlements).items())),
                "digest": digest.hexdigest(),
            },
        )

    def _ready(self, settlements: Sequence[Settlement]) -> list[str]:
        moved = {
            settled.task.request_id
            for settled in settlements
            if isinstance(settled.move, Delivered | Dead | Seen)
        }
        # Whatever came back of a cancelled one is taken out of the line.
        touched = {settled.task.request_id for settled in settlements}
        probed = {s.task.request_id for s in settlements if s.task.probe} & moved
        rows = self._conn.execute(_READY, {"touched": list(touched), "moved": list(moved)})
        return sorted({row.id for row in rows} | probed)


def _code(settled: Settlement) -> int | None:
    """Give the answer's code, unless it is a number that neither a column nor an event can hold."""
    return settled.code if settled.code is not None and abs(settled.code) < _MOST_CODE else None


def _stored(walk: Walk | None) -> str | None:
    return None if walk is None else walk.to_json()
