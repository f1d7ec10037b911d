"""Leeway: asked for by who is late time after time, and given back by who is no more."""

import pytest
from structlog.testing import capture_logs

from worker.leeway import Leeway


def fed(leeway, *, late, came, account="a", rounds=1):
    for _ in range(rounds):
        for number in range(came):
            leeway.came(account, late=number < late)
        asked = leeway.asked()
    return asked


def test_it_is_asked_for_after_four_late_rounds():
    leeway = Leeway()
    assert fed(leeway, late=5, came=40, rounds=3) == set()
    assert fed(leeway, late=5, came=40) == {"a"}


def test_a_late_round_counts_although_the_next_ones_are_good_because_less_was_claimed():
    leeway = Leeway()
    for _ in range(3):
        assert fed(leeway, late=5, came=40) == set()
        assert fed(leeway, late=0, came=40, rounds=2) == set()
    assert fed(leeway, late=5, came=40) == {"a"}


def test_stalls_now_and_then_are_no_reason_however_many_calls_they_made_late():
    leeway = Leeway()
    for _ in range(20):
        assert fed(leeway, late=500, came=500, rounds=2) == set()
        assert fed(leeway, late=0, came=40, rounds=10) == set()


def test_where_the_limit_holds_the_calls_up_and_not_the_process_lateness_is_no_reason():
    leeway = Leeway()
    for _ in range(20):
        for number in range(40):
            leeway.came("a", late=number < 20)
        assert leeway.asked(bounded=False) == set()


def test_one_late_call_in_ten_is_no_reason():
    assert fed(Leeway(), late=4, came=40, rounds=50) == set()


def test_few_calls_are_looked_at_together():
    leeway = Leeway()
    # Each fourth one is late, which alone would be a whole round's.
    for number in range(128):
        asked = fed(leeway, late=number % 4 == 0, came=1)
        assert asked == (set() if number < 127 else {"a"})


@pytest.mark.parametrize("before", [0, 5, 11])
def test_it_is_given_back_after_twelve_good_rounds_in_a_row(before):
    leeway = Leeway()
    fed(leeway, late=40, came=40, rounds=4)
    if before:
        assert fed(leeway, late=2, came=100, rounds=before) == {"a"}
    assert fed(leeway, late=3, came=100) == {"a"}
    assert fed(leeway, late=2, came=100, rounds=11) == {"a"}
    assert fed(leeway, late=2, came=100) == set()


def test_each_account_is_looked_at_by_itself():
    leeway = Leeway()
    for _ in range(4):
        fed(leeway, late=0, came=40, account="punctual")
        fed(leeway, late=30, came=40, account="late")
    assert leeway.asked() == {"late"}


def test_it_is_told_when_it_is_taken_and_returned():
    leeway = Leeway()
    with capture_logs() as logs:
        fed(leeway, late=40, came=40, rounds=8)
        fed(leeway, late=0, came=40, rounds=20)
    assert [one["event"] for one in logs] == ["leeway_taken", "leeway_returned"]
