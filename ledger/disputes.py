"""Disputes: what was refused, or never answered, is read back before it is counted as left.

MemOS says failure after it deleted everything, too. So a chunk that is given up is read back like
one that was taken, and only what is seen to be there, or cannot be seen, becomes a dead letter.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select

from ledger.policy import parse_verify
from ledger.schema import request
from ledger.states import ChunkState

__all__ = ["given_up", "is_read_back", "to_be_read_back"]


def to_be_read_back(conn: Connection, request_ids: Collection[str]) -> set[str]:
    """Give those of the requests whose deletions are read back."""
    if not request_ids:
        return set()
    rows = conn.execute(
        select(request.c.id, request.c.verify_now).where(request.c.id.in_(request_ids))
    )
    return {row.id for row in rows if is_read_back(row.verify_now)}


def is_read_back(verify_now: str) -> bool:
    """Say whether deletions are read back under this policy (`request.verify_now`)."""
    return not parse_verify(verify_now).none


def given_up(*, leftover: bool, bucket: str, read_back: bool) -> dict[str, Any]:
    """Give what a chunk's row becomes that no call is made for any more.

    Args:
        leftover: Whether the chunk is what a purge left behind.
        bucket: Which count its ids are under from here on: `refused` or `unknown`.
        read_back: Whether it is read back before that is believed.
    """
    # Which count: tells `ledger.dead` of a dead letter.
    values: dict[str, Any] = {"due_ns": 0, "doubtful": int(bucket == "unknown")}
    if leftover:
        # The purge's list shows what became of it.
        return values | {"state": ChunkState.DONE}
    if read_back:
        return values | {"state": ChunkState.DELIVERED, "disputed": bucket}
    return values | {"state": ChunkState.DEAD}
