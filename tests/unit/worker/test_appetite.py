"""How much a drain claims ahead: less when departures come late, more when they are on time."""

from hypothesis import given
from hypothesis import strategies as st

from worker.appetite import Appetite

MS = 1_000_000


def fed(appetite, *, late_ns, waiting=None):
    """One claim's departures, and the next claim, by default as much as may wait."""
    appetite.departed(late_ns)
    appetite.claimed(appetite.now if waiting is None else waiting)


def test_it_grows_to_its_most_while_all_departs_on_time():
    appetite = Appetite(500)
    appetite.claimed(appetite.now)
    for _ in range(50):
        fed(appetite, late_ns=MS)
    assert appetite.now == 500


def test_it_falls_to_one_and_no_lower_while_departures_are_late():
    appetite = Appetite(500)
    for _ in range(50):
        fed(appetite, late_ns=30 * MS)
    assert appetite.now == 1


def test_it_recovers_from_one():
    appetite = Appetite(64)
    for _ in range(50):
        fed(appetite, late_ns=30 * MS)
    for _ in range(50):
        fed(appetite, late_ns=0)
    assert appetite.now == 64


def test_a_bound_that_was_not_come_up_to_does_not_rise():
    appetite = Appetite(500)
    before = appetite.now
    for _ in range(50):
        fed(appetite, late_ns=0, waiting=before - 1)
    assert appetite.now == before


def test_between_late_and_on_time_it_stays():
    appetite = Appetite(500)
    before = appetite.now
    for _ in range(50):
        fed(appetite, late_ns=7 * MS)
    assert appetite.now == before


@given(st.integers(1, 5_000), st.lists(st.tuples(st.integers(-MS, 1_000 * MS), st.integers(0))))
def test_it_is_always_between_one_and_its_most(most, seen):
    appetite = Appetite(most)
    for late_ns, waiting in seen:
        fed(appetite, late_ns=late_ns, waiting=waiting)
        assert 1 <= appetite.now <= most
