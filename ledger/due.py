"""Due dates: one calendar month after the person asked (GDPR 12(3)), and how urgent that makes it.

Months are calendar months: 31 January is due on the last day of February.
"""

import calendar
from datetime import UTC, datetime, timedelta
from typing import Final

from ledger.schema import NOT_URGENT
from ledger.states import Kind, Lane

__all__ = ["default_due", "default_lane", "month_after", "urgency_of"]

_URGENT_WITHIN: Final = timedelta(days=3)


def month_after(moment: datetime) -> datetime:
    """Give the same time of day one calendar month later, or on that month's last day."""
    year, month = divmod(moment.year * 12 + moment.month, 12)
    month += 1
    last = calendar.monthrange(year, month)[1]
    return moment.replace(year=year, month=month, day=min(moment.day, last))


def default_lane(kind: Kind) -> Lane:
    """Give the lane of a request that names none: purges are erasures, ids are bulk."""
    return Lane.BULK if kind is Kind.MEMORIES else Lane.ERASURE


def default_due(lane: Lane, submitted_at: datetime) -> datetime | None:
    """Give the due date of a request that names none: a month for erasure, none for bulk."""
    return month_after(submitted_at) if lane is Lane.ERASURE else None


def urgency_of(due_at: datetime | None, now: datetime) -> int:
    """Give the due day (days since 1970) when it is at most three days off, else a far number.

    Work is claimed in this order first, so what is nearly due goes before the fair order.
    """
    if due_at is None or due_at - now > _URGENT_WITHIN:
        return NOT_URGENT
    return (due_at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
