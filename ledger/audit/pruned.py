"""Up to which leaf may bodies be missing? Only a recorded act says so, and the newest one is there.

A pruning is recorded after the leaves below it were signed, so its own event stands behind them,
and no pruning but a higher one takes its body. The highest one's body thus is always there to be
hashed. Without that a row in `pruning` would be as good as its event.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from ledger.audit.faults import Kind, Verdict
from ledger.blobs import raw
from ledger.errors import AuditError
from ledger.event_types import EventType
from ledger.events import leaf_hash

__all__ = ["exported_below", "pruned_below"]

_PRUNINGS: Final = text(
    "SELECT p.below, p.event, e.type, e.leaf_hash, b.payload, b.salt, l.idx, l.hash,"
    " EXISTS (SELECT 1 FROM unsealed u WHERE u.event = p.event) AS waits"
    " FROM pruning p LEFT JOIN event e ON e.id = p.event"
    " LEFT JOIN event_body b ON b.event = p.event LEFT JOIN leaf l ON l.event = p.event"
    " ORDER BY p.below DESC"
)


def pruned_below(conn: Connection, verdict: Verdict) -> int:
    """Give the index below which bodies may be missing; 0 when none may.

    Args:
        conn: A transaction that only reads.
        verdict: Is told of each pruning that is not what its event says.
    """
    below: int | None = None
    for row in _rows(conn):
        if below is not None and row.payload is None:
            # Its own body went with a later pruning.
            fits = row.type == EventType.BODIES_PRUNED and row.idx is not None and row.idx < below
        else:
            fits = _is_backed(row)
        if not fits:
            says = f"The pruning of leaves below {row.below} is not what its event says."
            verdict.add(Kind.PRUNING_UNRECORDED, says)
        elif below is None:
            below = row.below
    return below or 0


def exported_below(conn: Connection, size: int) -> int:
    """Give the same for an export of the first `size` leaves, which has to hold what says so.

    Raises:
        AuditError: It does not: the last pruning is not sealed yet, or not what was recorded.
    """
    row = next(_rows(conn), None)
    if row is None or not row.below:
        return 0
    if not _is_backed(row):
        msg = (
            f"The pruning of leaves below {row.below} is not what its event says, so an export "
            "would not verify; run `expunge audit verify`."
        )
        raise AuditError(msg)
    if row.idx is None or row.idx >= size:
        msg = (
            f"The pruning of leaves below {row.below} is not signed yet, so an export would not "
            "verify; run `expunge seal --once` first, then export again."
        )
        raise AuditError(msg)
    return int(row.below)


def _rows(conn: Connection) -> Iterator[Row[Any]]:
    return iter(conn.execute(_PRUNINGS).all())


def _is_backed(row: Row[Any]) -> bool:
    """Say whether a pruning's event is there, as it was recorded, and names exactly this one."""
    if row.payload is None or row.leaf_hash is None:
        return False
    digest, payload = raw(row.leaf_hash), raw(row.payload)
    recorded = bool(row.waits) if row.idx is None else raw(row.hash) == digest
    if not recorded or leaf_hash(payload, raw(row.salt)) != digest:
        return False
    try:
        said = json.loads(payload)
        names = said["id"], said["type"], said["below"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return row.type == EventType.BODIES_PRUNED and names == (row.event, row.type, row.below)
