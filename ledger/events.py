"""The audit's events: canonical, salted, hashed verbatim, appended only.

An event's leaf hash is RFC 6962's: SHA-256 over 0x00, the line `expunge-audit/v1`, the salt and the
payload bytes as stored. Verifying never re-serialises. The payload holds ids without meaning,
counts, codes and digests; never a user id, a memory id, a key or text of MemOS. Payload and salt
live in a table of their own, so that they can be pruned while the leaf hash stays. What may stand
in a payload is in `ledger.event_types`.
"""

import hashlib
import secrets
from typing import Any, Final

from sqlalchemy import Connection, Text, bindparam, cast, func, insert

from ledger.canonical import canonical
from ledger.clock import from_wall, wall_us
from ledger.commits import leave_number, leave_witness
from ledger.event_types import EventType, fault_of, newest
from ledger.identity import new_id
from ledger.schema import event, event_body

__all__ = ["EventType", "append", "event_rows", "insert_event", "leaf_hash"]

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


def append(
    conn: Connection,
    kind: EventType,
    payload: dict[str, Any],
    *,
    request_id: str | None = None,
    at_us: int | None = None,
) -> str:
    """Add one event inside the caller's transaction.

    Args:
        conn: The transaction that also makes the change which the event records.
        kind: Its type.
        payload: Strings, integers, booleans, None, lists and dicts; no names of people.
        request_id: The request it is about, when it is about one.
        at_us: When it happened, microseconds since 1970; None is now.

    Returns:
        The event's id, a UUID. Its place in the log is given when it is sealed.

    Raises:
        ValueError: The payload does not match its type's schema, or has no canonical form.
    """
    head, body = event_rows(kind, payload, request_id=request_id, at_us=at_us)
    insert_event(conn, head, body)
    return str(head["id"])


def insert_event(conn: Connection, head: dict[str, Any], body: dict[str, Any]) -> None:
    """Add an event whose rows `event_rows` made."""
    leave_witness(conn, {event.c.id: head["id"]})
    if conn.dialect.name == "postgresql":
        leave_number(conn, conn.execute(_ADD_BOTH, body | head).scalar_one())
    else:
        conn.execute(_ADD, head)
        conn.execute(_ADD_BODY, body)


def event_rows(
    kind: EventType,
    payload: dict[str, Any],
    *,
    request_id: str | None = None,
    at_us: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make an event's rows, for those who add many in one statement: first `event`, then its body.

    Raises:
        ValueError: The payload does not match its type's schema, or has no canonical form.
    """
    schema = newest(kind)
    if (fault := fault_of(schema, payload)) is not None:
        msg = f"An event {kind.value} (version {schema.version}) cannot be recorded: {fault}."
        raise ValueError(msg)
    event_id = new_id()
    body = canonical(
        {
            "v": schema.version,
            "id": event_id,
            "type": kind.value,
            "at": from_wall(wall_us() if at_us is None else at_us).isoformat(
                timespec="microseconds"
            ),
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
