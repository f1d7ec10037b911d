"""Recording what became of calls: one transaction for many, each write under its fencing token.

A worker that lost its lease (it was stopped, or cut off) still comes back with an outcome. Its
token is old by then: the attempt is recorded as stale, and nothing else is changed.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, insert, or_, select, update

from ledger.canonical import canonical
from ledger.clock import wall_us
from ledger.counting import Tally
from ledger.divide import Part, divide
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.macs import Macs
from ledger.policy import draw, parse_verify
from ledger.schema import FOREVER_NS, account, attempt, chunk, project, readback, request
from ledger.states import ChunkState, RequestState
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

__all__ = ["PROBES", "record"]

PROBES: Final = 3
_NS: Final = 1_000_000_000
_MOST_CODE: Final = 2**53


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
    return database.write(lambda conn: _Recording(conn, database, macs).run(settlements))


class _Recording:
    """One batch of outcomes inside one transaction."""

    def __init__(self, conn: Connection, database: Database, macs: Macs) -> None:
        self._conn = conn
        self._macs = macs
        self._now = database.clock.now_ns(conn)
        self._tally = Tally()
        self._stale: set[tuple[str, int]] = set()
        self._unverified: set[str] = set()
        # What is still leased under the settlement's token: table, row and token.
        self._own: set[tuple[str, int | None, int]] = set()
        # Rows to write, by table and the names of the columns that change.
        self._writes: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        self._to_halve: list[int | None] = []
        self._to_probe: list[int | None] = []

    def run(self, settlements: Sequence[Settlement]) -> list[str]:
        # Locks in one order everywhere: accounts, projects, chunks and read-backs, requests.
        self._pause_accounts(settlements)
        self._pause_projects(settlements)
        self._note_policies(settlements)
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
        for chunk_id in self._to_halve:
            self._halve(chunk_id)
        for chunk_id in self._to_probe:
            self._plan_probes(chunk_id)
        self._close_attempts(settlements)
        self._append_event(settlements)
        return self._ready(settlements)

    # -- accounts and projects --------------------------------------------------------------------

    def _pause_accounts(self, settlements: Sequence[Settlement]) -> None:
        pauses: dict[str, tuple[float, str]] = {}
        fine: set[str] = set()
        for settled in settlements:
            name = settled.task.account
            if settled.pause_account_s is not None:
                pauses[name] = max(
                    pauses.get(name, (0.0, "")), (settled.pause_account_s, settled.reason)
                )
            elif isinstance(settled.move, Delivered | Seen | Page):
                fine.add(name)
        for name in sorted(fine | set(pauses)):
            if name not in pauses:
                self._conn.execute(
                    update(account)
                    .where(account.c.name == name, account.c.strikes > 0)
                    .values(strikes=0)
                )
                continue
            seconds, reason = pauses[name]
            row = self._conn.execute(
                select(account).where(account.c.name == name).with_for_update(key_share=True)
            ).one()
            until = max(row.paused_until_ns, self._now + int(seconds * _NS))
            self._conn.execute(
                update(account)
                .where(account.c.name == name)
                .values(
                    paused_until_ns=until,
                    pause_reason=reason,
                    strikes=row.strikes + 1,
                    next_slot_ns=max(row.next_slot_ns, until),
                )
            )
            append(
                self._conn,
                EventType.ACCOUNT_PAUSED,
                {"account": name, "reason": reason, "milliseconds": int(seconds * 1000)},
            )

    def _pause_projects(self, settlements: Sequence[Settlement]) -> None:
        reasons = {
            settled.task.project: settled.pause_project
            for settled in settlements
            if settled.pause_project is not None
        }
        for name in sorted(reasons):
            stopped = self._conn.execute(
                update(project)
                .where(project.c.name == name, project.c.paused == 0)
                .values(paused=1, pause_reason=reasons[name], paused_at=wall_us())
            )
            if stopped.rowcount:
                append(
                    self._conn,
                    EventType.PROJECT_PAUSED,
                    {"project": name, "reason": reasons[name]},
                )
        rests: dict[str, float] = {}
        for settled in settlements:
            if settled.rest_project_s is not None:
                name = settled.task.project
                rests[name] = max(rests.get(name, 0.0), settled.rest_project_s)
        for name in sorted(rests):
            self._conn.execute(
                update(project)
                .where(project.c.name == name)
                .values(
                    open_until_ns=self._now + int(rests[name] * _NS),
                    failures=project.c.failures + 1,
                )
            )

    def _note_policies(self, settlements: Sequence[Settlement]) -> None:
        ids = {s.task.request_id for s in settlements if isinstance(s.move, Delivered)}
        if ids:
            rows = self._conn.execute(
                select(request.c.id, request.c.verify_now).where(request.c.id.in_(ids))
            )
            self._unverified = {row.id for row in rows if parse_verify(row.verify_now).none}

    # -- fences -----------------------------------------------------------------------------------

    def _find_own(self, settlements: Sequence[Settlement]) -> None:
        """Lock the rows that the outcomes are about, and see whose leases still hold."""
        for table, ids in (
            (chunk, {s.task.chunk_id for s in settlements if s.task.readback_id is None}),
            (readback, {s.task.readback_id for s in settlements if s.task.readback_id is not None}),
        ):
            if not ids:
                continue
            rows = self._conn.execute(
                select(table.c.id, table.c.fence)
                .where(table.c.id.in_(ids), table.c.state == "leased")
                .order_by(table.c.id)
                .with_for_update(key_share=True)
            )
            self._own |= {(table.name, row.id, row.fence) for row in rows}

    def _settle(self, table: Table, row_id: int | None, fence: int, values: dict[str, Any]) -> bool:
        """Note what becomes of a row, if its lease still holds; says whether it does."""
        own = (table.name, row_id, fence)
        if own not in self._own:
            return False
        self._own.remove(own)
        self._writes[table.name, *values].append({"row_id": row_id, **values})
        return True

    def _write(self) -> None:
        for (name, *_), rows in self._writes.items():
            table = chunk if name == chunk.name else readback
            self._conn.execute(update(table).where(table.c.id == bindparam("row_id")), rows)

    # -- chunks -----------------------------------------------------------------------------------

    def _settle_chunk(self, settled: Settlement) -> bool:
        task, move = settled.task, settled.move
        n = len(task.ids) or 1
        into, values = self._chunk_values(settled)
        if not self._settle(chunk, task.chunk_id, task.fence, values):
            return False
        self._tally.move(task.request_id, n, out_of="pending", into=into)
        if isinstance(move, Retry):
            self._tally.add(task.request_id, "retried")
        # Both need the request's row, which comes after all chunks in the order of locks.
        if isinstance(move, Split):
            self._to_halve.append(task.chunk_id)
        if isinstance(move, Probe):
            self._to_probe.append(task.chunk_id)
        return True

    def _chunk_values(self, settled: Settlement) -> tuple[str, dict[str, Any]]:
        """Give the count its ids are under from here on, and what its row becomes."""
        task, move = settled.task, settled.move
        due = {"last_reason": settled.reason, "lease_until_ns": 0, "state": ChunkState.DUE}
        match move:
            case Delivered():
                over = task.request_id in self._unverified
                return "already_absent" if move.was_absent else "acknowledged", due | {
                    "state": ChunkState.DONE if over else ChunkState.DELIVERED,
                    "was_absent": int(move.was_absent),
                    "burnt": 0,
                }
            case Dead():
                return move.bucket, due | {"state": ChunkState.DEAD, "burnt": task.burnt + 1}
            case Retry():
                return "pending", due | {
                    "due_ns": self._now + int(move.delay_s * _NS),
                    "burnt": task.burnt + int(move.burn),
                    "doubtful": int(task.doubtful or move.doubtful),
                }
            case Probe() if task.ids:
                return "pending", due | {"due_ns": FOREVER_NS, "reading": 1}
            case Unsent():
                return "pending", {"state": ChunkState.DUE, "due_ns": 0, "lease_until_ns": 0}
            case Split() if len(task.ids) > 1:
                return "pending", {"last_reason": settled.reason}
            case _:
                msg = f"{type(move).__name__} is no move of a chunk of {len(task.ids)} ids"
                raise AssertionError(msg)

    def _halve(self, chunk_id: int | None) -> None:
        parent = self._conn.execute(select(chunk).where(chunk.c.id == chunk_id)).one()
        middle = parent.n // 2
        halves = (range(middle), range(middle, parent.n))
        divide(
            self._conn,
            self._macs,
            parent,
            [
                Part(
                    items=half,
                    state=ChunkState.DUE,
                    sightings=parent.sightings,
                    doubtful=parent.doubtful,
                )
                for half in halves
            ],
        )

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
                values |= {"state": "done", "sight": move.sight, "seen": _id_list(move.ids)}
            case Page():
                values |= {
                    "state": "due",
                    "due_ns": self._now,
                    "page": task.page + 1,
                    "seen": _id_list(move.ids),
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
        own = update(attempt).where(
            attempt.c.claim == bindparam("of_claim"), attempt.c.place == bindparam("at_place")
        )
        # Not when the same was recorded before, and only the confirmation got lost.
        unsettled = or_(attempt.c.outcome.is_(None), attempt.c.reason == "lease_lapsed")
        for late, statement in ((False, own), (True, own.where(unsettled))):
            if rows[late]:
                self._conn.execute(statement, rows[late])

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
        if not moved:
            return []
        probed = {s.task.request_id for s in settlements if s.task.probe}
        rows = self._conn.execute(
            select(request.c.id).where(
                request.c.id.in_(moved),
                or_(request.c.pending == 0, request.c.state == RequestState.VERIFYING),
                request.c.finished_at.is_(None),
            )
        )
        return sorted({row.id for row in rows} | probed)


def _code(settled: Settlement) -> int | None:
    """Give the answer's code, unless it is a number that neither a column nor an event can hold."""
    return settled.code if settled.code is not None and abs(settled.code) < _MOST_CODE else None


def _id_list(ids: frozenset[str]) -> str | None:
    return json.dumps(sorted(ids), separators=(",", ":")) if ids else None
