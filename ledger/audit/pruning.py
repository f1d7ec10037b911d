"""Retention: the bodies of old leaves go, their hashes stay, and the tree still verifies.

By index, as C2SP's logs do: below it bodies may be missing. The act is an event and a row that
says up to where; without that row the database refuses to delete a body.
"""

from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from ledger.acting import check_act
from ledger.audit.stored import count_leaves
from ledger.engine import Database
from ledger.errors import RequestError
from ledger.events import EventType, append
from ledger.schema import checkpoint, event_body, leaf, pruning

__all__ = ["prune_bodies"]

# Leaves a transaction: some 10 ms on SQLite.
_AT_ONCE: Final = 1_000


def prune_bodies(database: Database, *, below: int, principal: str, reason: str) -> int:
    """Delete payload and salt of all leaves below an index; when broken off, run it again.

    On PostgreSQL it takes a role that may delete from `event_body`: the sealer's or the owner.

    Args:
        database: Where the ledger is.
        below: Index of the first leaf that keeps its body; a signed one's.
        principal: Who prunes, for the record; at most 64 characters.
        reason: A short code for the record.

    Returns:
        How many bodies were deleted.

    Raises:
        RequestError: Leaves below it are not signed yet, or the reason is no short code.
        LedgerError: The ledger did not confirm; running it again is safe.
    """
    check_act(principal=principal, reason=reason)

    def record(conn: Connection) -> None:
        done = conn.execute(select(func.max(pruning.c.below))).scalar()
        if done is None or below > done:
            signed = conn.execute(select(func.max(checkpoint.c.size))).scalar() or 0
            if below > min(signed, count_leaves(conn)):
                msg = f"Only signed events can be pruned: {below} is beyond the last, {signed}."
                raise RequestError(msg)
            payload = {"principal": principal, "reason": reason, "below": below}
            event_id = append(conn, EventType.BODIES_PRUNED, payload)
            conn.execute(insert(pruning).values(below=below, event=event_id))

    database.write(record)
    count = 0
    for first in range(0, below, _AT_ONCE):
        end = min(first + _AT_ONCE, below)
        some = select(leaf.c.event).where(leaf.c.idx >= first, leaf.c.idx < end)
        there = select(event_body.c.event).where(event_body.c.event.in_(some)).limit(1)
        if database.read(lambda conn, there=there: conn.execute(there).first()) is None:  # type: ignore[misc]
            continue
        gone = delete(event_body).where(event_body.c.event.in_(some))
        count += database.write_bulk(lambda conn, gone=gone: conn.execute(gone).rowcount)  # type: ignore[misc]
    return count
