"""Outcomes that are recorded again, since nobody knows whether the first time counted."""

from collections.abc import Sequence

from sqlalchemy import Connection, select, tuple_

from ledger.schema import attempt
from ledger.tasks import Settlement

__all__ = ["unrecorded"]


def unrecorded(conn: Connection, settlements: Sequence[Settlement]) -> list[Settlement]:
    """Leave out what is on record already: it must not be counted or reported twice.

    An attempt gets its outcome once, from whoever made the call; that its lease lapsed before is
    no outcome of the call. Waits for a first recording that is still under way.

    Args:
        conn: The transaction that is about to record.
        settlements: At least one, each of another attempt.
    """
    places = [(one.task.claim, one.task.place) for one in settlements]
    rows = conn.execute(
        select(attempt)
        .where(tuple_(attempt.c.claim, attempt.c.place).in_(places))
        .order_by(attempt.c.claim, attempt.c.place)
        .with_for_update()
    )
    known = {
        (row.claim, row.place)
        for row in rows
        if row.outcome is not None and (row.reason != "lease_lapsed" or row.stale)
    }
    return [one for one in settlements if (one.task.claim, one.task.place) not in known]
