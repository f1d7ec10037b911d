"""How much a drain claims ahead: less when slots are missed, more when none is."""

from hypothesis import given
from hypothesis import strategies as st

from worker.appetite import LEAST, Appetite


def fed(appetite, *, missed, met, filled=True):
    """What came to its slots, and the next claim."""
    for _ in range(missed):
        appetite.came(missed=True)
    for _ in range(met):
        appetite.came(missed=False)
    appetite.claimed(filled=filled)


def test_it_grows_to_its_most_while_no_slot_is_missed():
    appetite = Appetite(500)
    for _ in range(50):
        fed(appetite, missed=0, met=10)
    assert appetite.now == 500


def test_it_doubles_until_it_was_too_much_and_grows_by_a_quarter_from_then_on():
    appetite = Appetite(5_000)
    fed(appetite, missed=0, met=10)
    seen = []
    for _ in range(3):
        fed(appetite, missed=0, met=10)
        seen.append(appetite.now)
    assert seen == [65, 131, 263]
    fed(appetite, missed=10, met=10)
    assert appetite.now == 184
    fed(appetite, missed=0, met=10)
    assert appetite.now == 231


def test_it_falls_to_its_least_and_no_lower_while_slots_are_missed():
    appetite = Appetite(500)
    for _ in range(50):
        fed(appetite, missed=10, met=10)
    assert appetite.now == LEAST


def test_it_recovers():
    appetite = Appetite(64)
    for _ in range(50):
        fed(appetite, missed=10, met=0)
    for _ in range(50):
        fed(appetite, missed=0, met=10)
    assert appetite.now == 64


def test_a_bound_that_was_not_come_up_to_does_not_rise():
    appetite = Appetite(500)
    before = appetite.now
    for _ in range(50):
        fed(appetite, missed=0, met=10, filled=False)
    assert appetite.now == before


def test_a_few_misses_change_nothing():
    appetite = Appetite(500)
    before = appetite.now
    for _ in range(50):
        fed(appetite, missed=1, met=9)
    assert appetite.now == before


def test_one_miss_in_twenty_is_nothing_to_wait_for():
    appetite = Appetite(500)
    for _ in range(50):
        fed(appetite, missed=1, met=19)
    assert appetite.now == 500


def test_nothing_that_came_is_no_reason_for_anything():
    appetite = Appetite(500)
    before = appetite.now
    for _ in range(50):
        fed(appetite, missed=0, met=0)
    assert appetite.now == before


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.booleans())),
)
def test_it_is_always_between_its_least_and_its_most(most, seen):
    appetite = Appetite(most)
    for missed, met, filled in seen:
        fed(appetite, missed=missed, met=met, filled=filled)
        assert min(most, LEAST) <= appetite.now <= most
