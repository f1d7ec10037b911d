"""What happens to a request when something of it is not what was ordered: it stops, for a person.

Nothing more of it departs until somebody has looked and releases or cancels it, and it can never
end as complete. One of which nothing else is left to send does not wait: its next step ends it.
"""

from typing import Any, Final

from sqlalchemy import Connection, select, update

from ledger.events import EventType, append
from ledger.schema import request
from ledger.states import RequestState

__all__ = ["HOLD_REASON", "note_tampered"]

HOLD_REASON: Final = "tampered"
_PRINCIPAL: Final = "ledger"


def note_tampered(
    conn: Connection, request_id: str, payload: dict[str, Any], *, hold: bool = True
) -> None:
    """Record it, mark the request, and hold it unless it has ended.

    Args:
        conn: The transaction that found it.
        request_id: The request.
        payload: Of the event `order.tampered`.
        hold: Not where a person is at it anyway, who redrives what is left.
    """
    append(conn, EventType.ORDER_TAMPERED, payload, request_id=request_id)
    row = conn.execute(
        select(request.c.state, request.c.held, request.c.finished_at, request.c.cancelling)
        .where(request.c.id == request_id)
        .with_for_update(key_share=True)
    ).one()
    values: dict[str, Any] = {"tampered": 1}
    if hold and row.finished_at is None and not row.held and not row.cancelling:
        on_the_move = row.state in (RequestState.OPEN, RequestState.VERIFYING)
        values |= {"held": 1, "hold_reason": HOLD_REASON, "releasing": int(on_the_move)}
        held = {"principal": _PRINCIPAL, "reason": HOLD_REASON, "state": row.state}
        append(conn, EventType.REQUEST_HELD, held, request_id=request_id)
    conn.execute(update(request).where(request.c.id == request_id).values(values))
