"""Claiming: slots, work and the record of intent in one transaction.

Nothing departs that was not claimed, so every call has its record before it leaves, and the limit
holds because slots are given out under the account's row lock. READ COMMITTED suffices: the
account's row is locked, chunks are taken with SKIP LOCKED, and each carries a fencing token.
"""

import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    insert,
    null,
    or_,
    select,
    update,
)

from ledger.checks import OrderCheck, bury_tampered, may_delete, request_columns
from ledger.claimed import CHUNK_COLUMNS, READBACK_COLUMNS, intent_digest, task_of
from ledger.clock import wall_us
from ledger.crash_points import reached
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.host import own_now_ns
from ledger.lanes import pick
from ledger.macs import Macs
from ledger.migrate import require_schema
from ledger.schema import FOREVER_NS, account, attempt, chunk, project, readback, request
from ledger.slots import AHEAD_NS, book, most_at_once
from ledger.states import ChunkState, Lane
from ledger.stops import PATIENCE, TRIPS, is_trial
from ledger.tasks import Claim, Task

__all__ = ["claim"]

_PROMOTED_AT_ONCE: Final = 256


def claim(
    database: Database, macs: Macs, *, worker: str, capacity: int, lead_ns: int, lease_ns: int
) -> Claim:
    """Take due work of every account, as much as its slots carry.

    Args:
        database: Where the ledger is.
        macs: Checks that each order is what was handed in.
        worker: Name of the process, for the record.
        capacity: Most calls that this worker can take on, 1 or more.
        lead_ns: Time from here to a departure; earlier slots would be missed.
        lease_ns: How long the work is this worker's; longer than the call's deadline.

    Raises:
        SchemaError: The ledger was migrated to another release's tables; nothing was claimed.
        LedgerError: The ledger did not confirm. What was claimed anyway lapses with its lease.
    """
    claimed = database.write(
        lambda conn: _Claiming(
            conn, database, macs, worker=worker, lead_ns=lead_ns, lease_ns=lease_ns
        ).run(capacity)
    )
    reached("claim.after_commit")
    return claimed


class _Claiming:
    """One claim inside one transaction."""

    def __init__(
        self,
        conn: Connection,
        database: Database,
        macs: Macs,
        *,
        worker: str,
        lead_ns: int,
        lease_ns: int,
    ) -> None:
        self._conn = conn
        self._check = OrderCheck(macs)
        self._worker = worker
        self._lead_ns = lead_ns
        self._lease_ns = lease_ns
        self._id = secrets.token_hex(16)
        self._now = own_now_ns(conn, database)
        self._mono = time.monotonic_ns()
        self._tasks: list[Task] = []
        self._tampered: list[tuple[Row[Any], str]] = []
        self._wakes: list[int] = []

    def run(self, capacity: int) -> Claim:
        # In the same transaction: not one claim after somebody migrated the ledger.
        require_schema(self._conn)
        accounts = self._lock_accounts()
        # After the accounts: whoever waits for one must not hold what others wait for under it.
        self._promote()
        for row in accounts:
            if len(self._tasks) < capacity:
                self._claim_account(row, capacity - len(self._tasks))
        for row, fault in self._tampered:
            bury_tampered(self._conn, row, fault)
        self._note_waiting()
        reached("claim.before_commit")
        wake = min(self._wakes, default=None)
        return Claim(
            tasks=tuple(sorted(self._tasks, key=lambda task: task.slot_ns)),
            now_ns=self._now,
            mono_ns=self._mono,
            wake_ns=None if wake is None else max(0, wake - self._now),
            tampered=tuple(sorted({row.request_id for row, _ in self._tampered})),
        )

    def _promote(self) -> None:
        """Put chunks whose waiting time is over back in line."""
        ripe = (
            select(chunk.c.id)
            .where(chunk.c.state == ChunkState.DUE, chunk.c.due_ns > 0, chunk.c.due_ns <= self._now)
            .order_by(chunk.c.due_ns)
            .limit(_PROMOTED_AT_ONCE)
            .with_for_update(key_share=True, skip_locked=True)
        )
        self._conn.execute(update(chunk).where(chunk.c.id.in_(ripe)).values(due_ns=0))

    def _lock_accounts(self) -> list[Row[Any]]:
        """Lock the accounts by name, as `record` does; who waited longest is served first."""
        names = self._conn.execute(select(account.c.name)).scalars().all()
        rows = [
            self._conn.execute(
                select(account).where(account.c.name == name).with_for_update(key_share=True)
            ).one()
            for name in sorted(names)
        ]
        return sorted(rows, key=lambda row: row.claimed_ns)

    def _claim_account(self, row: Row[Any], capacity: int) -> None:
        name = row.name
        if row.paused:
            return
        if row.paused_until_ns > self._now:
            self._wakes.append(row.paused_until_ns)
            return
        # After a rest one call goes first, and the others when it went well.
        wanted = 1 if row.strikes else min(capacity, most_at_once(row.interval_ns))
        if row.next_slot_ns - self._now > AHEAD_NS:
            self._wakes.append(row.next_slot_ns - AHEAD_NS)
            return
        projects = self._open_projects(name)
        trials = {one.name for one in projects if is_trial(one)}
        deletions = {lane: self._due(chunk, projects, lane, wanted) for lane in Lane}
        reads = {lane: self._due(readback, projects, lane, wanted) for lane in Lane}
        if trials:
            _keep_one_each([*deletions.values(), *reads.values()], trials)
        free = book(
            next_slot_ns=row.next_slot_ns,
            now_ns=self._now,
            lead_ns=self._lead_ns,
            interval=row.interval_ns,
            wanted=wanted,
        )
        picked = pick(
            slots=len(free.slots),
            booked=row.booked,
            read_credit=row.read_credit,
            deletions=deletions,
            reads=reads,
        )
        booking = book(
            next_slot_ns=row.next_slot_ns,
            now_ns=self._now,
            lead_ns=self._lead_ns,
            interval=row.interval_ns,
            wanted=len(picked.work),
        )
        if not booking.slots:
            return
        work = picked.work
        tags = {
            column: max(
                [
                    getattr(row, column),
                    *(
                        item.tag + 1
                        for item in work
                        if item.lane == lane and item.readback_id is None
                    ),
                ]
            )
            for lane, column in ((Lane.ERASURE, "erasure_tag"), (Lane.BULK, "bulk_tag"))
        }
        self._conn.execute(
            update(account)
            .where(account.c.name == name)
            .values(
                next_slot_ns=booking.next_slot_ns,
                booked=row.booked + len(work),
                read_credit=picked.read_credit,
                claimed_ns=self._now,
                # No further trial before this one's outcome, or the end of its lease.
                paused_until_ns=booking.slots[0] + self._lease_ns if row.strikes else 0,
                **tags,
            )
        )
        for one in projects:
            if one.name in trials and any(item.project == one.name for item in work):
                self._conn.execute(
                    update(project)
                    .where(project.c.name == one.name)
                    .values(open_until_ns=booking.slots[-1] + self._lease_ns)
                )
        self._take(row, work, booking.slots, projects)
        more = sum(map(len, deletions.values())) + sum(map(len, reads.values())) > len(work)
        if more or len(work) == wanted:
            self._wakes.append(max(self._now, booking.next_slot_ns - AHEAD_NS))

    # -- what is due ------------------------------------------------------------------------------

    def _open_projects(self, name: str) -> Sequence[Row[Any]]:
        """Give the account's projects of which calls may depart now; note when others may."""
        rows = self._conn.execute(
            select(project)
            .where(project.c.account == name, project.c.paused == 0)
            .order_by(project.c.name)
        ).all()
        later = [row.open_until_ns for row in rows if row.open_until_ns > self._now]
        self._wakes.extend(later)
        return [row for row in rows if row.open_until_ns <= self._now]

    def _due(
        self, table: Table, projects: Sequence[Row[Any]], lane: Lane, limit: int
    ) -> list[Row[Any]]:
        """Give the first rows in line of all projects that may go on.

        Project by project, so that the line of a stopped one is not walked through each time.
        """
        if not projects:
            return []
        find = self._due_chunks if table is chunk else self._due_readbacks
        ready = [
            table.c.account == projects[0].account,
            table.c.lane == lane,
            table.c.state == "due",
        ]
        if table is chunk:
            ready.append(chunk.c.due_ns == 0)
        working = self._conn.execute(
            select(project.c.name).where(
                project.c.name.in_([one.name for one in projects]),
                # Not EXISTS, and in the index's order: else PostgreSQL walks through the table.
                select(table.c.id)
                .where(*ready, table.c.project == project.c.name)
                .order_by(table.c.urgency, table.c.tag if table is chunk else table.c.due_ns)
                .limit(1)
                .scalar_subquery()
                .is_not(None),
            )
        ).scalars()
        rows = [row for one in working.all() for row in find(ready, one, limit)]
        rows.sort(key=lambda row: (row.urgency, row.place_in_line, row.readback_id or row.chunk_id))
        return rows[:limit]

    def _due_chunks(
        self, ready: list[ColumnElement[bool]], project_name: str, limit: int
    ) -> Sequence[Row[Any]]:
        query = (
            select(
                chunk.c.id.label("chunk_id"),
                null().label("readback_id"),
                chunk.c.tag.label("place_in_line"),
                *(chunk.c[column] for column in CHUNK_COLUMNS),
                chunk.c.mac,
                *request_columns(),
            )
            .join(request, request.c.id == chunk.c.request_id)
            .where(*ready, chunk.c.project == project_name, may_delete())
            .order_by(chunk.c.urgency, chunk.c.tag)
        )
        return self._runnable(query.where(request.c.finished_at.is_(None)), limit, chunk)

    def _due_readbacks(
        self, ready: list[ColumnElement[bool]], project_name: str, limit: int
    ) -> Sequence[Row[Any]]:
        query = (
            select(
                readback.c.chunk_id,
                readback.c.id.label("readback_id"),
                readback.c.due_ns.label("place_in_line"),
                *(readback.c[column] for column in READBACK_COLUMNS),
                readback.c.kind.label("readback_kind"),
                chunk.c.ids,
                chunk.c.sightings,
                chunk.c.no,
                chunk.c.parent,
                chunk.c.first,
                chunk.c.places,
                chunk.c.mac,
                *request_columns(),
                request.c.finished_at,
            )
            .outerjoin(chunk, chunk.c.id == readback.c.chunk_id)
            .join(request, request.c.id == readback.c.request_id)
            .where(*ready, readback.c.project == project_name, readback.c.due_ns <= self._now)
            .order_by(readback.c.urgency, readback.c.due_ns)
        )
        open_ = or_(request.c.finished_at.is_(None), request.c.second_look == "looking")
        return self._runnable(query.where(open_), limit, readback)

    def _runnable(self, query: Select[Any], limit: int, table: Table) -> Sequence[Row[Any]]:
        """Leave out held requests, and lock what is taken."""
        query = (
            query.where(request.c.held == 0)
            .limit(limit)
            .with_for_update(key_share=True, of=table, skip_locked=True)
        )
        return self._conn.execute(query).all()

    def _note_waiting(self) -> None:
        for table, state in ((chunk, ChunkState.DUE.value), (readback, "due")):
            # `> 0` as the index has it, and no min(): SQLite would walk through the whole table.
            soonest = self._conn.execute(
                select(table.c.due_ns)
                .where(
                    table.c.state == state,
                    table.c.due_ns > 0,
                    table.c.due_ns > self._now,
                    table.c.due_ns < FOREVER_NS,
                )
                .order_by(table.c.due_ns)
                .limit(1)
            ).scalar()
            if soonest is not None:
                self._wakes.append(soonest)

    # -- taking it --------------------------------------------------------------------------------

    def _take(
        self,
        of: Row[Any],
        work: Sequence[Row[Any]],
        slots: Sequence[int],
        projects: Sequence[Row[Any]],
    ) -> None:
        faults = [self._check.fault(row) for row in work]
        stopped = {row.request_id for row, fault in zip(work, faults, strict=True) if fault}
        broken = {one.name: one.failures for one in projects if is_trial(one)}
        taken: list[Task] = []
        for row, slot, fault in zip(work, slots, faults, strict=True):
            if fault is not None:
                self._tampered.append((row, fault))
            if row.request_id in stopped:
                continue  # nothing more of it departs until a person has looked
            task = task_of(
                row,
                claim=self._id,
                place=len(self._tasks) + len(taken),
                slot_ns=slot,
                now_ns=self._now,
            )
            trial = row.project in broken and self._is_patient(task, broken[row.project])
            taken.append(replace(task, strikes=of.strikes, trial=trial))
        if not taken:
            return
        until = self._now + self._lease_ns
        for table, ids in (
            (chunk, [task.chunk_id for task in taken if task.readback_id is None]),
            (readback, [task.readback_id for task in taken if task.readback_id is not None]),
        ):
            if ids:
                self._conn.execute(
                    update(table)
                    .where(table.c.id.in_(ids))
                    .values(state="leased", lease_until_ns=until, fence=table.c.fence + 1)
                )
        now = wall_us()
        self._conn.execute(
            insert(attempt),
            [
                {
                    "claim": task.claim,
                    "place": task.place,
                    "request_id": task.request_id,
                    "generation": task.generation,
                    "chunk_id": task.chunk_id if task.readback_id is None else None,
                    "readback_id": task.readback_id,
                    "fence": task.fence,
                    "call": task.call,
                    "worker": self._worker,
                    "slot_ns": task.slot_ns,
                    "claimed_at": now,
                }
                for task in taken
            ],
        )
        append(
            self._conn,
            EventType.CALLS_INTENT,
            {
                "claim": self._id,
                "account": of.name,
                "worker": self._worker,
                "calls": len(taken),
                "digest": intent_digest(taken),
            },
        )
        self._tasks.extend(taken)

    @staticmethod
    def _is_patient(task: Task, failures: int) -> bool:
        """Say whether an outage is so young that failing in it uses up no attempt."""
        return failures - TRIPS < PATIENCE[task.call]


def _keep_one_each(lines: Sequence[list[Row[Any]]], projects: Collection[str]) -> None:
    """Leave one row of each of these projects in all lines together, the first one."""
    met: set[str] = set()
    for line in lines:
        kept = []
        for row in line:
            if row.project not in projects or row.project not in met:
                kept.append(row)
                met.add(row.project)
        line[:] = kept
