"""Messages of a queue that cannot be an order: written down once, without what they said.

What a message held may be somebody's name, so it is not kept; a keyed digest of its bytes lets the
sender prove which one it was. The bytes themselves are the sender's.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select

from ledger.clock import from_wall, wall_us
from ledger.events import EventType, append
from ledger.identity import new_id
from ledger.macs import Macs
from ledger.schema import parked_message
from ledger.upsert import insert_missing

__all__ = ["ParkedMessage", "UnusableMessage", "list_parked", "park_messages"]


@dataclass(frozen=True, kw_only=True)
class UnusableMessage:
    """One message to park.

    Attributes:
        broker: Kind of queue, such as `redis`.
        stream: Which queue of it.
        position: The message's place there.
        reason: A slug of a closed list.
        detail: A sentence that says what is wrong, and nothing that the message held.
        body: Its bytes; only a keyed digest of them is kept.
    """

    broker: str
    stream: str
    position: str
    reason: str
    detail: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ParkedMessage:
    """One message as it was parked.

    Attributes:
        size: Of its body, in bytes.
        body_ref: Keyed digest of its body, 64 hex digits.
    """

    id: str
    broker: str
    stream: str
    position: str
    reason: str
    detail: str
    size: int
    body_ref: str
    parked_at: datetime


def park_messages(conn: Connection, macs: Macs, messages: Sequence[UnusableMessage]) -> list[str]:
    """Write messages down, and give the id of each; one that is parked already keeps its first."""
    return [_park(conn, macs, message) for message in messages]


def list_parked(conn: Connection, *, limit: int) -> list[ParkedMessage]:
    """Show the newest `limit` parked messages, newest first."""
    query = select(parked_message).order_by(
        parked_message.c.parked_at.desc(), parked_message.c.id.desc()
    )
    return [
        ParkedMessage(**{**row._mapping, "parked_at": from_wall(row.parked_at)})  # noqa: SLF001 - a row's public mapping
        for row in conn.execute(query.limit(limit))
    ]


def _park(conn: Connection, macs: Macs, message: UnusableMessage) -> str:
    parked_id = new_id()
    where = {
        "broker": message.broker,
        "stream": message.stream,
        "position": message.position,
        # Any bytes at all may come, and a reference is made of text.
        "body_ref": macs.reference("message", hashlib.sha256(message.body).hexdigest()),
    }
    about = {**where, "reason": message.reason, "size": len(message.body)}
    insert_missing(
        conn,
        parked_message,
        id=parked_id,
        detail=message.detail,
        parked_at=wall_us(),
        **about,
    )
    known = str(conn.execute(select(parked_message.c.id).filter_by(**where)).scalar_one())
    if known != parked_id:
        return known
    append(conn, EventType.MESSAGE_PARKED, about | {"parked": parked_id})
    return parked_id
