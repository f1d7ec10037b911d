"""Holding, releasing and cancelling a request: what a person may still change after the order.

Each begins with one short transaction under the account's row lock, as every claim is: a claim is
over before it, or finds the request held or cancelled. From then on nothing more of it departs but
the calls that were claimed before. Moving its chunks goes on in short transactions afterwards; the
sweep finishes what a killed process began.
"""

from typing import Any

from sqlalchemy import Connection, Row, update

from ledger.acting import check_act, check_principal, lock_request
from ledger.advance import advance
from ledger.clock import wall_us
from ledger.codes import check_code
from ledger.engine import Database
from ledger.errors import ConflictError
from ledger.events import EventType, append
from ledger.macs import Macs
from ledger.readback import ReadbackPolicy
from ledger.release import park_chunks, release_chunks
from ledger.schema import request
from ledger.states import FINAL_REQUEST_STATES, RequestState, Result

__all__ = ["cancel", "hold", "release"]


def hold(database: Database, request_id: str, *, principal: str, reason: str) -> bool:
    """Let nothing more of a request depart, deletions and read-backs, until it is released.

    Args:
        database: Where the ledger is.
        request_id: The request, in any state that is not final.
        principal: Who holds it, for the record; at most 64 characters.
        reason: A short code, which the request shows while it is held.

    Returns:
        False when it was held already; its reason then stays what it was.

    Raises:
        NotFoundError: There is no such request.
        ConflictError: It is final, or being cancelled.
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm; holding again is safe.
    """
    check_act(principal=principal, reason=reason)

    def work(conn: Connection) -> bool:
        row = lock_request(conn, request_id)
        _refuse_final(row, "held")
        if row.cancelling:
            msg = f"Request {row.id} is being cancelled; there is nothing left to hold."
            raise ConflictError(msg)
        if row.held:
            return False
        conn.execute(
            update(request)
            .where(request.c.id == row.id)
            .values(held=1, hold_reason=reason, releasing=_releasing(row), touched_at=wall_us())
        )
        payload = {"principal": principal, "reason": reason, "state": row.state}
        append(conn, EventType.REQUEST_HELD, payload, request_id=row.id)
        return True

    held = database.write(work)
    park_chunks(database, request_id)
    return held


def release(
    database: Database, request_id: str, *, principal: str, reason: str | None = None
) -> bool:
    """Let a held request go on; all that waited is due at once.

    Args:
        database: Where the ledger is.
        request_id: The request.
        principal: Who releases it, for the record; at most 64 characters.
        reason: A short code for the record, or None.

    Returns:
        False when it was not held.

    Raises:
        NotFoundError: There is no such request.
        ConflictError: It is final, or being cancelled.
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm; releasing again is safe.
    """
    if reason is not None:
        check_code(reason, "The reason")
    check_principal(principal)

    def work(conn: Connection) -> bool:
        row = lock_request(conn, request_id)
        _refuse_final(row, "released")
        if row.cancelling:
            msg = f"Request {row.id} is being cancelled and cannot go on; hand it in again."
            raise ConflictError(msg)
        if not row.held:
            return False
        conn.execute(
            update(request)
            .where(request.c.id == row.id)
            .values(held=0, hold_reason=None, releasing=_releasing(row), touched_at=wall_us())
        )
        payload = {"principal": principal, "reason": reason, "held_for": row.hold_reason}
        append(conn, EventType.REQUEST_RELEASED, payload, request_id=row.id)
        return True

    released = database.write(work)
    release_chunks(database, request_id)
    return released


def cancel(
    database: Database,
    macs: Macs,
    request_id: str,
    *,
    principal: str,
    reason: str,
    policy: ReadbackPolicy,
) -> bool:
    """Send nothing more of a request, for good.

    What was never sent is counted as `cancelled`; a call whose answer was lost leaves its ids
    `unknown`; what was seen to be still there stays `still_present`. What was delivered is read
    back as ever, and the request ends `cancelled` when nothing of it was carried out, else as its
    counts say.

    Args:
        database: Where the ledger is.
        macs: Checks at the end that the order is whole.
        request_id: The request, in any state that is not final; held or not.
        principal: Who cancels it, for the record; at most 64 characters.
        reason: A short code for the record.
        policy: How what was delivered is read back.

    Returns:
        False when it had been cancelled before.

    Raises:
        NotFoundError: There is no such request.
        ConflictError: It came to its end without having been cancelled.
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm; cancelling again is safe.
    """
    check_act(principal=principal, reason=reason)

    def work(conn: Connection) -> bool:
        row = lock_request(conn, request_id)
        if row.cancelling or row.state == RequestState.CANCELLED:
            return False
        _refuse_final(row, "cancelled")
        values: dict[str, Any] = {"cancelling": 1, "held": 0, "hold_reason": None, "releasing": 0}
        now = wall_us()
        if row.state == RequestState.RECEIVING:
            # Nothing was accepted yet, so its key is free again; its sender is told.
            values |= {
                "state": RequestState.CANCELLED,
                "result": Result.CANCELLED,
                "finished_at": now,
                "idempotency_ref": None,
            }
        conn.execute(update(request).where(request.c.id == row.id).values(**values, touched_at=now))
        payload = {"principal": principal, "reason": reason, "state": row.state}
        append(conn, EventType.REQUEST_CANCELLED, payload, request_id=row.id)
        return True

    cancelled = database.write(work)
    advance(database, macs, request_id, policy=policy)
    return cancelled


def _releasing(row: Row[Any]) -> int:
    """Whether chunks have to move: those of a request that is not open yet are all parked."""
    return int(row.state in (RequestState.OPEN, RequestState.VERIFYING))


def _refuse_final(row: Row[Any], what: str) -> None:
    if row.state in FINAL_REQUEST_STATES:
        msg = (
            f"Request {row.id} has ended ({row.state}) and cannot be {what}; "
            f"see `expunge status {row.id}`."
        )
        raise ConflictError(msg)
