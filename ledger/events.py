"""The audit's events: canonical, salted, hashed verbatim, appended only.

An event's leaf hash is RFC 6962's: SHA-256 over 0x00, the line `expunge-audit/v1`, the salt and the
payload bytes as stored. Verifying never re-serialises. The payload holds ids without meaning,
counts, codes and digests; never a user id, a memory id, a key or text of MemOS. Payload and salt
live in a table of their own, so that they can be pruned while the leaf hash stays.
"""

import hashlib
import secrets
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Text, bindparam, cast, func, insert

from ledger.canonical import canonical
from ledger.clock import from_wall, wall_us
from ledger.commits import leave_number, leave_witness
from ledger.identity import new_id
from ledger.schema import event, event_body

__all__ = ["EventType", "append", "event_rows", "leaf_hash"]

LEAF_PREFIX: Final = b"expunge-audit/v1\n"
_SALT_BYTES: Final = 32
_ADD: Final = insert(event)
_ADD_BODY: Final = insert(event_body)
# The same on PostgreSQL, one way there and back instead of two; and the transaction's number, which
# would be asked for before the COMMIT.
_HEAD: Final = _ADD.values({column.name: bindparam(column.name) for column in event.c}).cte("head")
_ADD_BOTH: Final = (
    insert(event_body)
    .values(event=bindparam("id"), payload=bindparam("payload"), salt=bindparam("salt"))
    .add_cte(_HEAD)
    .returning(cast(func.pg_current_xact_id(), Text))
)


class EventType(StrEnum):
    """The closed list of what can happen."""

    REQUEST_ACCEPTED = "request.accepted"
    REQUEST_VERIFYING = "request.verifying"
    REQUEST_REOPENED = "request.reopened"
    REQUEST_FINISHED = "request.finished"
    REQUEST_LOOKED_AGAIN = "request.looked_again"
    REQUEST_HELD = "request.held"
    REQUEST_RELEASED = "request.released"
    REQUEST_CANCELLED = "request.cancelled"
    REQUEST_REDRIVEN = "request.redriven"
    DEAD_DISCARDED = "dead.discarded"
    DEAD_REVEALED = "dead.revealed"
    MESSAGE_PARKED = "message.parked"
    CALLS_INTENT = "calls.intent"
    CALLS_OUTCOME = "calls.outcome"
    LEASES_LAPSED = "leases.lapsed"
    ACCOUNT_PAUSED = "account.paused"
    ACCOUNT_RESUMED = "account.resumed"
    PROJECT_PAUSED = "project.paused"
    PROJECT_RESUMED = "project.resumed"
    PROJECT_BROKEN = "project.broken"
    PROJECT_MENDED = "project.mended"
    ORDER_TAMPERED = "order.tampered"


def append(
    conn: Connection, kind: EventType, payload: dict[str, Any], *, request_id: str | None = None
) -> str:
    """Add one event inside the caller's transaction.

    Args:
        conn: The transaction that also makes the change which the event records.
        kind: Its type.
        payload: Strings, integers, booleans, None, lists and dicts; no names of people.
        request_id: The request it is about, when it is about one.

    Returns:
        The event's id, a UUID. Its place in the log is given when it is sealed.

    Raises:
        ValueError: The payload has no canonical form.
    """
    head, body = event_rows(kind, payload, request_id=request_id)
    leave_witness(conn, {event.c.id: head["id"]})
    if conn.dialect.name == "postgresql":
        leave_number(conn, conn.execute(_ADD_BOTH, body | head).scalar_one())
    else:
        conn.execute(_ADD, head)
        conn.execute(_ADD_BODY, body)
    return str(head["id"])


def event_rows(
    kind: EventType, payload: dict[str, Any], *, request_id: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make an event's rows, for those who add many in one statement: first `event`, then its body.

    Raises:
        ValueError: The payload has no canonical form.
    """
    event_id = new_id()
    body = canonical(
        {
            "v": 1,
            "id": event_id,
            "type": kind.value,
            "at": from_wall(wall_us()).isoformat(timespec="microseconds"),
            "request": request_id,
            **payload,
        }
    )
    salt = secrets.token_bytes(_SALT_BYTES)
    return (
        {
            "id": event_id,
            "request": request_id,
            "type": kind.value,
            "leaf_hash": leaf_hash(body, salt),
        },
        {"event": event_id, "payload": body, "salt": salt},
    )


def leaf_hash(payload: bytes, salt: bytes) -> bytes:
    """Hash one leaf from the bytes as they are stored."""
    return hashlib.sha256(b"\x00" + LEAF_PREFIX + salt + payload).digest()
