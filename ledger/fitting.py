"""Are these the keys of this ledger? Told by the requests that stand in it."""

from typing import Final

from sqlalchemy import Connection, select

from ledger.checks import header_holds
from ledger.macs import Macs
from ledger.schema import request
from ledger.states import RequestState

__all__ = ["are_own_keys"]

_LOOKED_AT: Final = 5


def are_own_keys(conn: Connection, macs: Macs) -> bool | None:
    """Say whether one of the newest requests holds under these keys; None when there is none yet.

    One that was changed does not hold either; that all of them were is less likely than a folder
    of keys that is another installation's.
    """
    newest = (
        select(request)
        .where(request.c.state != RequestState.RECEIVING, request.c.closing_mac.is_not(None))
        .order_by(request.c.created_at.desc(), request.c.id.desc())
        .limit(_LOOKED_AT)
    )
    rows = conn.execute(newest).all()
    if not rows:
        return None
    return any(header_holds(macs, row) for row in rows)
