"""Harmless reads that a command makes at MemOS: each takes a slot, and has its records.

A read waits for its slot, is given up when that was missed, and does not depart when its project or
account was paused meanwhile. Everything is open before a slot is booked, so that few are missed.
"""

import asyncio
import time
from typing import Final

from ledger import Ledger
from ledger.errors import LedgerError
from ledger.probes import Probe, ProbeRefused
from ledger.projects import Project
from ledger.slots import LATE_NS
from memos_api import Call, KeptBackError, MemosClient, Reply
from worker.clients import dialect_of

__all__ = ["DEADLINE_S", "PATIENCE_S", "open_client", "probe"]

DEADLINE_S: Final = 5.0
PATIENCE_S: Final = 5.0
_LEAD_S: Final = 0.1
_MOST_LEAD_S: Final = 0.8
_TOO_LATE_NS: Final = 20_000_000
# Before the slot, the ledger is asked once more whether the call may still be made.
_LOOK_NS: Final = 50_000_000
# A late call departs once the slots after it were moved. That must be before the one a second away
# is given out: 1.005 s minus the longest lead.
_MOST_LATE_NS: Final = 200_000_000
_MOVING_NS: Final = 5_000_000
_MISSED: Final = "slot_missed"


def open_client(project: Project) -> MemosClient:
    """Make the client of a project that has a key; enter it before use.

    Raises:
        TypeError: It has none.
    """
    if project.api_key is None:
        raise TypeError("Only a project with a key can be asked.")
    return MemosClient(
        base_url=project.base_url,
        api_key=project.api_key.get_secret_value(),
        deadline_s=DEADLINE_S,
        in_flight=1,
        dialect=dialect_of(project),
    )


async def probe(
    ledger: Ledger,
    client: MemosClient,
    call: Call,
    *,
    project: str,
    principal: str,
    patience_s: float | None = None,
) -> Reply | ProbeRefused:
    """Make one read, when it may be made.

    Args:
        ledger: Which gives the slot and keeps the record.
        client: Open.
        call: A read.
        project: Whose key the client has.
        principal: Who asks, for the record.
        patience_s: Longest wait for a slot in seconds; None waits 5.

    Returns:
        What it brought, or why it was not made.

    Raises:
        LedgerError: The ledger did not confirm; nothing was sent, or its outcome is not recorded.
    """
    until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    lead_s = _LEAD_S
    while True:
        booked = await asyncio.to_thread(
            ledger.book_probe, project, principal=principal, lead_s=lead_s
        )
        if isinstance(booked, ProbeRefused):
            wait_s = booked.wait_s or 0.0
            if booked.reason != "no_slot" or time.monotonic() + wait_s > until:
                return booked
            await asyncio.sleep(wait_s)
            continue
        reply = await _send(ledger, client, call, booked)
        if reply is not None and (reply.answer.reason != _MISSED or time.monotonic() > until):
            return reply
        if time.monotonic() > until:
            return ProbeRefused(reason="no_slot")
        # This machine is busy: leave it more time.
        lead_s = min(_MOST_LEAD_S, 2 * lead_s)


async def _send(ledger: Ledger, client: MemosClient, call: Call, booked: Probe) -> Reply | None:
    """Send it at its slot; None when that was missed or taken back, and nothing was sent."""
    await _until(booked.not_before_ns - _LOOK_NS)
    allowed = await asyncio.to_thread(ledger.may_probe, booked)
    await _until(booked.not_before_ns)
    missed = time.monotonic_ns() - booked.not_before_ns > _TOO_LATE_NS
    if missed or not allowed:
        why = _MISSED if allowed else "halted"
        await asyncio.to_thread(ledger.record_probe, booked, outcome="unsent", reason=why)
        return None
    made_up_ns = LATE_NS
    margin_ns = _MOVING_NS

    async def leaves() -> None:
        # Blocks, as nothing else is on this loop: the next free slot is moved, then it departs.
        nonlocal made_up_ns, margin_ns
        while (late_ns := booked.late_by_ns(time.monotonic_ns())) > made_up_ns:
            if late_ns > _MOST_LATE_NS:
                # The slots up to here are others' already: a second would hold one call too many.
                raise KeptBackError(_MISSED)
            # Moving it takes time as well, and on a busy ledger longer than thought: ever more at
            # once, or the moves would make it later than they make up for.
            by_ns = late_ns - made_up_ns + margin_ns
            margin_ns *= 2
            try:
                ledger.postpone(booked.account, by_ns=by_ns)
            except LedgerError:
                raise KeptBackError(_MISSED) from None
            made_up_ns += by_ns

    reply = await client.send(call, leaves=leaves)
    kept_back = reply.answer.reason == _MISSED
    await asyncio.to_thread(
        ledger.record_probe,
        booked,
        outcome="unsent" if kept_back else reply.answer.outcome.value,
        reason=reply.answer.reason,
        http_status=None if kept_back else reply.answer.http_status,
        code=None if kept_back else reply.answer.code,
    )
    return reply


async def _until(moment_ns: int) -> None:
    await asyncio.sleep(max(0.0, (moment_ns - time.monotonic_ns()) / 1e9))
