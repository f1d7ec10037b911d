"""Are the orders in the ledger what was ordered? By the MACs over requests and their chunks.

For who has the order key; an auditor elsewhere does without.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from ledger.audit.faults import Kind, Verdict
from ledger.checks import header_holds
from ledger.closing import chain_is_whole
from ledger.engine import Database
from ledger.errors import KeysError
from ledger.fitting import are_own_keys
from ledger.keys import Keys
from ledger.macs import Macs
from ledger.schema import request
from ledger.states import RequestState

__all__ = ["OrderKeys", "Orders", "changed_orders"]

_AT_ONCE = 200


class OrderKeys(StrEnum):
    """Which keys there were to check orders with."""

    OWN = "own"
    ABSENT = "absent"
    FOREIGN = "foreign"


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What came of checking the orders.

    Attributes:
        keys: Whose keys there were; with others than the ledger's own nothing is checked.
        good: How many orders are as they were ordered; None when nothing was checked.
    """

    keys: OrderKeys
    good: int | None = None


def changed_orders(database: Database, keys_dir: Path, verdict: Verdict) -> Orders:
    """Check header and closing MAC of every request that was handed in whole.

    Args:
        database: Where the ledger is.
        keys_dir: Directory of the order key.
        verdict: Is told of each that does not fit.

    Raises:
        LedgerError: The database did not answer.
    """
    try:
        macs = Macs(Keys.load(keys_dir))
    except KeysError:
        return Orders(keys=OrderKeys.ABSENT)
    if _are_foreign(database, macs):
        return Orders(keys=OrderKeys.FOREIGN)
    good = 0
    for request_id, fault in _checked(database, macs):
        if fault is None:
            good += 1
        else:
            says = f"Request {request_id} is not what was ordered: its {fault} does not hold."
            verdict.add(Kind.ORDER_CHANGED, says)
    return Orders(keys=OrderKeys.OWN, good=good)


def _are_foreign(database: Database, macs: Macs) -> bool:
    """Say whether these are another ledger's keys: neither its fingerprint nor any order is theirs.

    Not by the fingerprint alone: whoever changes orders could change that as well, and so have
    them passed over.
    """
    if database.read(lambda conn: are_own_keys(conn, macs)) is not False:
        return False
    return all(fault == "header MAC" for _, fault in _checked(database, macs))


def _checked(database: Database, macs: Macs) -> Iterator[tuple[str, str | None]]:
    """Yield the id of each order, and which of its MACs does not hold."""
    after = ""
    while some := database.read(lambda conn: _look(conn, macs, after)):  # noqa: B023 - run at once
        yield from some
        after = some[-1][0]


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
    return [(row.id, _fault(conn, macs, row)) for row in conn.execute(query).all()]


def _fault(conn: Connection, macs: Macs, row: Row[Any]) -> str | None:
    try:
        holds = header_holds(macs, row)
    except (TypeError, ValueError, OverflowError):
        holds = False  # SQLite stores any type, and no order has one that has no MAC
    if not holds:
        return "header MAC"
    if row.salt and not chain_is_whole(lambda work: work(conn), macs, row.id):
        return "closing MAC"
    return None
