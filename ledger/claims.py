"""Claiming: slots, work and the record of intent in one transaction.

Nothing departs that was not claimed, so every call has its record before it leaves, and the limit
holds because slots are given out under the account's row lock. READ COMMITTED suffices: the
account's row is locked, chunks are taken with SKIP LOCKED, and each carries a fencing token.
"""

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Row, Table, bindparam, update

from ledger.among import among
from ledger.attempts import open_attempts
from ledger.checks import OrderCheck, bury_tampered
from ledger.claimed import call_of, ids_of, intent_digest, task_of
from ledger.clock import wall_us
from ledger.crash_points import reached
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.host import own_now_ns
from ledger.in_line import (
    ACCOUNTS,
    ACCOUNTS_IN_TURN,
    DUE,
    PROJECTS,
    PROMOTE,
    SOONEST,
    is_waiting,
)
from ledger.lanes import pick
from ledger.macs import Macs
from ledger.migrate import require_schema
from ledger.postpone import postpone
from ledger.schema import account, chunk, project, readback
from ledger.slots import AHEAD_NS, LEEWAY_AHEAD_NS, Booking, book, most_at_once
from ledger.states import Lane
from ledger.stops import PATIENCE, TRIPS, is_trial
from ledger.tasks import Claim, Task

__all__ = ["claim"]

# Built once: what a claim writes.
_BOOK: Final = update(account).where(account.c.name == bindparam("of_account"))
_TRY: Final = update(project).where(project.c.name == bindparam("of_project"))
_LEASE: Final = {
    table: update(table)
    .where(among(table.c.id, "taken"))
    .values(
        state="leased", lease_until_ns=bindparam("until", type_=BigInteger), fence=table.c.fence + 1
    )
    for table in (chunk, readback)
}


def claim(
    database: Database,
    macs: Macs,
    *,
    worker: str,
    capacity: int,
    lead_ns: int,
    lease_ns: int,
    owed: Mapping[str, int],
    leeway: frozenset[str],
) -> Claim:
    """Take due work of every account, as much as its slots carry.

    Args:
        database: Where the ledger is.
        macs: Checks that each order is what was handed in.
        worker: Name of the process, for the record.
        capacity: Most calls that this worker can take on, 1 or more.
        lead_ns: Time from here to a departure; earlier slots would be missed.
        lease_ns: How long the work is this worker's; longer than the call's deadline.
        owed: Nanoseconds by account by which its next free slot moves before: earlier calls of this
            worker departed late (`ledger.postpone`).
        leeway: Accounts of which this worker's calls may depart 100 ms late (`ledger.slots`).

    Raises:
        SchemaError: The ledger was migrated to another release's tables; nothing was claimed.
        LedgerError: The ledger did not confirm. What was claimed anyway lapses with its lease.
    """
    claimed = database.write(
        lambda conn: _Claiming(
            conn,
            database,
            macs,
            worker=worker,
            lead_ns=lead_ns,
            lease_ns=lease_ns,
            leeway=leeway,
        ).run(capacity, owed)
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
        leeway: frozenset[str],
    ) -> None:
        self._conn = conn
        self._check = OrderCheck(macs)
        self._worker = worker
        self._lead_ns = lead_ns
        self._lease_ns = lease_ns
        self._leeway = leeway
        self._id = secrets.token_hex(16)
        self._now = own_now_ns(conn, database)
        self._mono = time.monotonic_ns()
        self._tasks: list[Task] = []
        self._tampered: list[tuple[Row[Any], str]] = []
        self._wakes: list[int] = []

    def run(self, capacity: int, owed: Mapping[str, int]) -> Claim:
        # In the same transaction: not one claim after somebody migrated the ledger.
        require_schema(self._conn)
        accounts = self._lock_accounts()
        if owed:
            for name, by_ns in owed.items():
                postpone(self._conn, name, by_ns=by_ns)
            accounts = self._lock_accounts()
        # After the accounts: whoever waits for one must not hold what others wait for under it.
        self._promote()
        for row in accounts:
            if len(self._tasks) < capacity:
                self._claim_account(row, capacity - len(self._tasks))
        for row, fault in self._tampered:
            bury_tampered(self._conn, row, fault)
        reached("claim.before_commit")
        wake = min(self._wakes, default=None)
        return Claim(
            tasks=tuple(sorted(self._tasks, key=lambda task: task.slot_ns)),
            now_ns=self._now,
            mono_ns=self._mono,
            wake_ns=None if wake is None else max(0, wake - self._now),
            tampered=tuple(sorted({row.request_id for row, _ in self._tampered})),
            leeway=self._leeway,
        )

    def _promote(self) -> None:
        """Put chunks whose waiting time is over back in line; note when the next ones' is."""
        soonest = self._soonest(chunks_after=0)
        if soonest.chunk is not None and soonest.chunk <= self._now:
            self._conn.execute(PROMOTE, {"now": self._now})
            soonest = self._soonest(chunks_after=self._now)
        self._wakes.extend(one for one in soonest if one is not None)

    def _soonest(self, *, chunks_after: int) -> Row[Any]:
        after = {"chunks_after": chunks_after, "reads_after": self._now}
        return self._conn.execute(SOONEST, after).one()

    def _lock_accounts(self) -> list[Row[Any]]:
        """Lock the accounts by name, as `record` does; who waited longest is served first."""
        alone = self._conn.dialect.name == "sqlite"
        rows = self._conn.execute(ACCOUNTS if alone else ACCOUNTS_IN_TURN).all()
        return sorted(rows, key=lambda row: (row.claimed_ns, row.name))

    def _claim_account(self, row: Row[Any], capacity: int) -> None:
        name = row.name
        if row.paused:
            return
        if row.paused_until_ns > self._now:
            self._wakes.append(row.paused_until_ns)
            return
        # After a rest one call goes first, and the others when it went well.
        wanted = 1 if row.strikes else min(capacity, most_at_once(row.interval_ns))
        # Whoever takes long to claim has to come earlier, or slots would go by between its claims.
        ahead = usual = max(AHEAD_NS, self._lead_ns)
        if name in self._leeway or row.leeway_until_ns > self._now:
            ahead = max(ahead, LEEWAY_AHEAD_NS)
        if row.next_slot_ns - self._now > ahead:
            self._wakes.append(row.next_slot_ns - ahead)
            return
        projects = self._open_projects(name)
        trials = {one.name for one in projects if is_trial(one)}
        deletions = {lane: self._due(chunk, lane, projects, wanted) for lane in Lane}
        reads = {lane: self._due(readback, lane, projects, wanted) for lane in Lane}
        if trials:
            _keep_one_each([*deletions.values(), *reads.values()], trials)
        free = self._book(row, wanted)
        picked = pick(
            slots=len(free.slots),
            booked=row.booked,
            read_credit=row.read_credit,
            deletions=deletions,
            reads=reads,
        )
        booking = self._book(row, len(picked.work))
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
            _BOOK,
            {
                "of_account": name,
                "next_slot_ns": booking.next_slot_ns,
                "leeway_until_ns": booking.leeway_until_ns,
                "booked": row.booked + len(work),
                "read_credit": picked.read_credit,
                "claimed_ns": self._now,
                # No further trial before this one's outcome, or the end of its lease.
                "paused_until_ns": booking.slots[0] + self._lease_ns if row.strikes else 0,
                **tags,
            },
        )
        for one in projects:
            if one.name in trials and any(item.project == one.name for item in work):
                shut = {"open_until_ns": booking.slots[-1] + self._lease_ns}
                self._conn.execute(_TRY, {"of_project": one.name, **shut})
        self._take(row, work, booking.slots, projects)
        more = sum(map(len, deletions.values())) + sum(map(len, reads.values())) > len(work)
        if more or len(work) == wanted:
            self._wakes.append(max(self._now, booking.next_slot_ns - usual))

    def _book(self, row: Row[Any], wanted: int) -> Booking:
        return book(
            next_slot_ns=row.next_slot_ns,
            now_ns=self._now,
            lead_ns=self._lead_ns,
            interval=row.interval_ns,
            wanted=wanted,
            leeway=row.name in self._leeway,
            leeway_until_ns=row.leeway_until_ns,
        )

    # -- what is due ------------------------------------------------------------------------------

    def _open_projects(self, name: str) -> Sequence[Row[Any]]:
        """Give the account's projects of which calls may depart now; note when others may."""
        rows = self._conn.execute(PROJECTS, {"account": name}).all()
        later = [row.open_until_ns for row in rows if row.open_until_ns > self._now]
        self._wakes.extend(later)
        return [row for row in rows if row.open_until_ns <= self._now]

    def _due(
        self, table: Table, lane: Lane, projects: Sequence[Row[Any]], limit: int
    ) -> list[Row[Any]]:
        """Give the first rows in line of all projects that may go on.

        Project by project, so that the line of a stopped one is not walked through each time.
        """
        rows: list[Row[Any]] = []
        for one in projects:
            if is_waiting(one, table, lane):
                of = {"account": one.account, "project": one.name, "most": limit}
                if table is readback:
                    of["now"] = self._now
                rows.extend(self._conn.execute(DUE[table, lane], of).all())
        rows.sort(key=lambda row: (row.urgency, row.place_in_line, row.readback_id or row.chunk_id))
        return rows[:limit]

    # -- taking it --------------------------------------------------------------------------------

    def _take(
        self,
        of: Row[Any],
        work: Sequence[Row[Any]],
        slots: Sequence[int],
        projects: Sequence[Row[Any]],
    ) -> None:
        faults, lists = [], []
        for row in work:
            faults.append(self._check.fault(row))
            # At once: the check has just decoded them, and nothing else was since.
            lists.append(() if faults[-1] else ids_of(row.ids))
        stopped = {row.request_id for row, fault in zip(work, faults, strict=True) if fault}
        broken = {one.name: one.failures for one in projects if is_trial(one)}
        taken: list[Task] = []
        for row, slot, fault, of_row in zip(work, slots, faults, lists, strict=True):
            if fault is not None:
                self._tampered.append((row, fault))
            if row.request_id in stopped:
                continue  # nothing more of it departs until a person has looked
            task = task_of(
                row,
                ids=of_row,
                claim=self._id,
                place=len(self._tasks) + len(taken),
                slot_ns=slot,
                now_ns=self._now,
                strikes=of.strikes,
                trial=row.project in broken and _is_patient(row, broken[row.project]),
            )
            taken.append(task)
        if not taken:
            return
        until = self._now + self._lease_ns
        for table, ids in (
            (chunk, [task.chunk_id for task in taken if task.readback_id is None]),
            (readback, [task.readback_id for task in taken if task.readback_id is not None]),
        ):
            if ids:
                self._conn.execute(_LEASE[table], {"taken": ids, "until": until})
        now = wall_us()
        open_attempts(
            self._conn,
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


def _is_patient(row: Row[Any], failures: int) -> bool:
    """Say whether an outage is so young that failing in it uses up no attempt."""
    return failures - TRIPS < PATIENCE[call_of(row)]


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
