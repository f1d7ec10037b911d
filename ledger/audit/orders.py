"""Are the orders in the ledger what was ordered? By the MACs over requests and their chunks.

For who has the order key; an auditor elsewhere does without.
"""

from pathlib import Path

from sqlalchemy import Connection, select

from ledger.audit.faults import Kind, Verdict
from ledger.checks import header_holds
from ledger.closing import chain_is_whole
from ledger.engine import Database
from ledger.errors import KeysError
from ledger.keys import Keys
from ledger.macs import Macs
from ledger.schema import request
from ledger.states import RequestState

__all__ = ["changed_orders"]

_AT_ONCE = 200


def changed_orders(database: Database, keys_dir: Path, verdict: Verdict) -> int | None:
    """Check header and closing MAC of every request that was handed in whole.

    Args:
        database: Where the ledger is.
        keys_dir: Directory of the order key.
        verdict: Is told of each that does not fit.

    Returns:
        How many are as ordered; None without the key, when nothing was checked.

    Raises:
        LedgerError: The database did not answer.
    """
    try:
        macs = Macs(Keys.load(keys_dir))
    except KeysError:
        return None
    good, after = 0, ""
    while True:
        some = database.read(lambda conn, after=after: _look(conn, macs, after))  # type: ignore[misc]
        if not some:
            return good
        for request_id, fault in some:
            after = request_id
            if fault is None:
                good += 1
            else:
                says = f"Request {request_id} is not what was ordered: its {fault} does not hold."
                verdict.add(Kind.ORDER_CHANGED, says)


def _look(conn: Connection, macs: Macs, after: str) -> list[tuple[str, str | None]]:
    query = (
        select(request)
        .where(
            request.c.id > after,
            request.c.state != RequestState.RECEIVING,
            request.c.closing_mac.is_not(None),
        )
        .order_by(request.c.id)
        .limit(_AT_ONCE)
    )
    found: list[tuple[str, str | None]] = []
    for row in conn.execute(query).all():
        if not header_holds(macs, row):
            found.append((row.id, "header MAC"))
        elif row.salt and not chain_is_whole(conn, macs, row.id):
            found.append((row.id, "closing MAC"))
        else:
            found.append((row.id, None))
    return found
