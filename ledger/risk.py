"""Which requests come close to their due date, or are past it: one rule for views, filters, gauges.

*Overdue*: the due date is over and the request has not ended. *At risk*: not overdue, and three
quarters of the time from the person's asking to the due date are over. When the asking lies in the
future (so nobody knows when the time began): fewer than three days are left.
"""

from typing import Final

from sqlalchemy import ColumnElement, and_, or_

from ledger.schema import request

__all__ = ["at_risk", "at_risk_rows", "overdue", "overdue_rows"]

_DAYS_LEFT_US: Final = 3 * 24 * 3_600 * 1_000_000


def overdue(*, due_us: int | None, now_us: int, ended: bool) -> bool:
    """Say whether a request should have ended by now. Moments are microseconds since 1970."""
    return due_us is not None and due_us < now_us and not ended


def at_risk(*, submitted_us: int, due_us: int | None, now_us: int, ended: bool) -> bool:
    """Say whether a request comes close to its due date. Moments are microseconds since 1970."""
    if due_us is None or ended or due_us < now_us:
        return False
    if submitted_us > now_us:
        return due_us - now_us < _DAYS_LEFT_US
    # Four quarters of now against three of the due date and one of the asking: no fractions.
    return 4 * now_us >= 3 * due_us + submitted_us


def overdue_rows(now_us: int) -> ColumnElement[bool]:
    """Give `overdue` as a condition on the request table; never NULL."""
    return and_(
        request.c.due_at.is_not(None), request.c.due_at < now_us, request.c.finished_at.is_(None)
    )


def at_risk_rows(now_us: int) -> ColumnElement[bool]:
    """Give `at_risk` as a condition on the request table; never NULL."""
    due, submitted = request.c.due_at, request.c.submitted_at
    return and_(
        due.is_not(None),
        due >= now_us,
        request.c.finished_at.is_(None),
        or_(
            and_(submitted <= now_us, 3 * due + submitted <= 4 * now_us),
            and_(submitted > now_us, due < now_us + _DAYS_LEFT_US),
        ),
    )
