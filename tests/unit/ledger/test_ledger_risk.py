"""When a request is at risk of missing its due date, and when it has missed it."""

from datetime import UTC, datetime, timedelta

import pytest

from ledger.clock import to_wall
from ledger.risk import at_risk, overdue

DUE = datetime(2026, 12, 20, 12, tzinfo=UTC)
ASKED = DUE - timedelta(days=28)
SECOND = timedelta(seconds=1)
THREE_QUARTERS = ASKED + timedelta(days=21)


def both(*, asked=ASKED, due=DUE, now, ended=False):
    due_us = None if due is None else to_wall(due)
    return (
        at_risk(submitted_us=to_wall(asked), due_us=due_us, now_us=to_wall(now), ended=ended),
        overdue(due_us=due_us, now_us=to_wall(now), ended=ended),
    )


@pytest.mark.parametrize(
    ("now", "risk", "late"),
    [
        (ASKED, False, False),
        (THREE_QUARTERS - SECOND, False, False),
        (THREE_QUARTERS, True, False),
        (DUE, True, False),
        (DUE + SECOND, False, True),
        (DUE + timedelta(days=400), False, True),
    ],
)
def test_at_risk_after_three_quarters_of_the_time_and_overdue_after_all_of_it(now, risk, late):
    assert both(now=now) == (risk, late)
    assert both(now=now, ended=True) == (False, False)
    assert both(now=now, due=None) == (False, False)


@pytest.mark.parametrize(
    ("left", "risk"),
    [
        (timedelta(days=4), False),
        (timedelta(days=3), False),
        (timedelta(days=3) - SECOND, True),
        (SECOND, True),
    ],
)
def test_asked_for_in_the_future_it_is_at_risk_in_its_last_three_days(left, risk):
    now = DUE - left
    assert both(now=now, asked=now + timedelta(days=30)) == (risk, False)


def test_handed_in_late_it_is_at_risk_at_once_and_with_its_date_over_overdue():
    assert both(now=DUE - SECOND, asked=DUE - timedelta(days=30)) == (True, False)
    assert both(now=DUE + SECOND, asked=DUE + timedelta(days=1)) == (False, True)
