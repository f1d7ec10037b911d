"""Retention: which bodies of the record are old enough to go."""

from typing import Final

from sqlalchemy import Connection, func, select

from ledger.audit.pruning import prune_bodies
from ledger.clock import wall_us
from ledger.engine import Database
from ledger.schema import checkpoint, pruning

__all__ = ["prune_old"]

_DAY_US: Final = 86_400_000_000
_REASON: Final = "retention"


def prune_old(database: Database, *, keep_days: float, principal: str) -> int:
    """Delete the bodies of all events that were sealed more than so many days ago.

    Their hashes stay, and the tree still verifies. Run it again when it was broken off.

    Args:
        database: Where the ledger is, by a role that may delete bodies: the sealer's or the owner.
        keep_days: How long they are kept.
        principal: Who prunes, for the record; at most 64 characters.

    Returns:
        How many bodies were deleted.

    Raises:
        LedgerError: The ledger did not confirm; running it again is safe.
    """
    before = wall_us() - int(keep_days * _DAY_US)

    def look(conn: Connection) -> tuple[int, int]:
        sealed = select(func.max(checkpoint.c.size)).where(checkpoint.c.signed_at <= before)
        done = select(func.max(pruning.c.below))
        return conn.execute(sealed).scalar() or 0, conn.execute(done).scalar() or 0

    below, done = database.read(look)
    if below <= done:
        return 0
    return prune_bodies(database, below=below, principal=principal, reason=_REASON)
