"""Probes: harmless calls that a person makes to see whether MemOS answers, within the limit.

A probe takes a slot of its account like any other call, and has a record before it leaves and one
of its outcome. It has no request, so it is no attempt: the two events are all there is of it.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from ledger.clock import Clock
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.schema import account, project
from ledger.slots import AHEAD_NS, book

__all__ = ["Probe", "ProbeRefused", "book_probe", "may_probe", "record_probe"]

_NS: Final = 1_000_000_000
# Larger ones have no exact form in an event.
_MOST_CODE: Final = 2**53


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A booked call.

    Attributes:
        id: Random; joins the two events of the call.
        project: Whose key and address it tries.
        account: Whose slot it takes.
        slot_ns: When it may depart, on the ledger's clock.
        least_offset_ns: What to add to turn a moment of the ledger's clock into this process's
            `time.monotonic_ns()`, and `most_offset_ns`, the same: the ledger was asked between two
            readings of our own clock, so the truth lies between these two.
    """

    id: str
    project: str
    account: str
    slot_ns: int
    least_offset_ns: int
    most_offset_ns: int

    @property
    def not_before_ns(self) -> int:
        """The moment, by `time.monotonic_ns()`, from which on it surely is not too early."""
        return self.slot_ns + self.most_offset_ns

    def late_by_ns(self, now_ns: int) -> int:
        """How late a departure at `now_ns` of `time.monotonic_ns()` is at worst."""
        return max(0, now_ns - self.slot_ns - self.least_offset_ns)


@dataclass(frozen=True, kw_only=True)
class ProbeRefused:
    """No call may be made now.

    Attributes:
        reason: `unknown_project`, `project_paused`, `account_paused`, `project_rests`,
            `account_rests`, or `no_slot` while the next free one is farther away than anybody may
            book.
        why: What stopped it, a slug such as `http_401`, when something did.
        wait_s: Seconds until asking again makes sense; None when a person has to act first.
    """

    reason: str
    why: str | None = None
    wait_s: float | None = None


def book_probe(
    database: Database, project_name: str, *, principal: str, lead_s: float
) -> Probe | ProbeRefused:
    """Book one slot for a harmless call, and record that it is about to be made.

    A slot that is not used is lost: the rate is then lower, never higher.

    Args:
        database: Where the ledger is.
        project_name: Whose key is to be tried.
        principal: Who tries it, for the record.
        lead_s: Seconds from here to a departure, at most 1; an earlier slot would be missed.

    Raises:
        LedgerError: The ledger did not confirm; no call may be made.
    """
    return database.write(
        lambda conn: _book(
            conn, database.clock, project_name, principal=principal, lead_ns=int(lead_s * _NS)
        )
    )


def record_probe(
    database: Database,
    probe: Probe,
    *,
    outcome: str,
    reason: str,
    http_status: int | None,
    code: int | None,
) -> None:
    """Record what came of a probe, `unsent` when it never departed.

    Raises:
        LedgerError: The ledger did not confirm.
    """
    payload = {
        "probe": True,
        "claim": probe.id,
        "calls": 1,
        "stale": 0,
        "outcomes": {outcome: 1},
        "reason": reason,
        "http_status": http_status,
        "code": code if code is not None and abs(code) < _MOST_CODE else None,
    }
    database.write(lambda conn: append(conn, EventType.CALLS_OUTCOME, payload))


def may_probe(database: Database, probe: Probe) -> bool:
    """Say whether a booked call may still be made: asked shortly before its slot.

    Raises:
        LedgerError: The ledger did not answer; the call may not be made.
    """

    def ask(conn: Connection) -> bool:
        tried = conn.execute(select(project).where(project.c.name == probe.project)).one()
        row = conn.execute(select(account).where(account.c.name == probe.account)).one()
        return _standstill(tried, row, database.clock.now_ns(conn)) is None

    return database.read(ask)


def _book(
    conn: Connection, clock: Clock, project_name: str, *, principal: str, lead_ns: int
) -> Probe | ProbeRefused:
    known = select(project).where(project.c.name == project_name)
    tried = conn.execute(known).first()
    if tried is None:
        return ProbeRefused(reason="unknown_project")
    # As claims lock it: whoever gives out slots of an account does so one after the other.
    row = conn.execute(
        select(account).where(account.c.name == tried.account).with_for_update(key_share=True)
    ).one()
    # Again: it may have been stopped while we waited for the lock.
    tried = conn.execute(known).one()
    before = time.monotonic_ns()
    now = clock.now_ns(conn)
    after = time.monotonic_ns()
    if (refused := _standstill(tried, row, now)) is not None:
        return refused
    # As for claims: what is booked far ahead could not be moved when a call before it departs late.
    if row.next_slot_ns - now > AHEAD_NS:
        return ProbeRefused(reason="no_slot", wait_s=(row.next_slot_ns - now - AHEAD_NS) / _NS)
    booking = book(
        next_slot_ns=row.next_slot_ns,
        now_ns=now,
        lead_ns=lead_ns,
        interval=row.interval_ns,
        wanted=1,
        leeway_until_ns=row.leeway_until_ns,
    )
    (slot,) = booking.slots
    # Not `booked`: it shares slots out between the lanes, and a probe is of neither.
    conn.execute(
        update(account).where(account.c.name == row.name).values(next_slot_ns=booking.next_slot_ns)
    )
    claim = secrets.token_hex(16)
    append(
        conn,
        EventType.CALLS_INTENT,
        {
            "probe": True,
            "claim": claim,
            "account": row.name,
            "project": project_name,
            "worker": principal,
            "calls": 1,
            "slot": str(slot),
        },
    )
    return Probe(
        id=claim,
        project=project_name,
        account=row.name,
        slot_ns=slot,
        least_offset_ns=before - now,
        most_offset_ns=after - now,
    )


def _standstill(tried: Row[Any], owner: Row[Any], now: int) -> ProbeRefused | None:
    if tried.paused:
        return ProbeRefused(reason="project_paused", why=tried.pause_reason)
    if owner.paused:
        return ProbeRefused(reason="account_paused", why=owner.stop_reason)
    if tried.open_until_ns > now:
        return ProbeRefused(reason="project_rests", wait_s=(tried.open_until_ns - now) / _NS)
    if owner.paused_until_ns > now:
        rest_s = (owner.paused_until_ns - now) / _NS
        return ProbeRefused(reason="account_rests", why=owner.pause_reason, wait_s=rest_s)
    return None
