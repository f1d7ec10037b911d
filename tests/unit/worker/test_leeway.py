"""Leeway: asked for by who is late time after time, and given back by who is no more."""

from structlog.testing import capture_logs

from worker.leeway import Leeway


def fed(leeway, *, late, came, account="a", rounds=1):
    for _ in range(rounds):
        for number in range(came):
            leeway.came(account, late=number < late)
        asked = leeway.asked()
    return asked


def test_it_is_asked_for_after_three_late_rounds_in_a_row():
    leeway = Leeway()
    assert fed(leeway, late=2, came=10, rounds=2) == set()
    assert fed(leeway, late=2, came=10) == {"a"}


def test_a_stall_is_no_reason_however_many_calls_it_made_late():
    leeway = Leeway()
    for _ in range(20):
        assert fed(leeway, late=500, came=500, rounds=2) == set()
        assert fed(leeway, late=0, came=10) == set()


def test_one_late_call_in_ten_is_no_reason():
    assert fed(Leeway(), late=1, came=10, rounds=50) == set()


def test_few_calls_are_looked_at_together():
    leeway = Leeway()
    # One late call of eight in each round, which alone would be a whole round's.
    for number in range(24):
        assert fed(leeway, late=number % 8 == 0, came=1) == (set() if number < 23 else {"a"})


def test_it_is_given_back_after_ten_good_rounds_in_a_row():
    leeway = Leeway()
    fed(leeway, late=9, came=9, rounds=3)
    assert fed(leeway, late=2, came=100, rounds=9) == {"a"}
    assert fed(leeway, late=3, came=100) == {"a"}  # and the count begins anew
    assert fed(leeway, late=2, came=100, rounds=9) == {"a"}
    assert fed(leeway, late=2, came=100) == set()


def test_each_account_is_looked_at_by_itself():
    leeway = Leeway()
    for _ in range(3):
        fed(leeway, late=0, came=10, account="punctual")
        fed(leeway, late=9, came=10, account="late")
    assert leeway.asked() == {"late"}


def test_it_is_told_when_it_is_taken_and_returned():
    leeway = Leeway()
    with capture_logs() as logs:
        fed(leeway, late=9, came=9, rounds=5)
        fed(leeway, late=0, came=9, rounds=12)
    assert [one["event"] for one in logs] == ["leeway_taken", "leeway_returned"]
