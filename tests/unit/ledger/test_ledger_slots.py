"""Slots: no window ever holds more than the limit, and the rate is used."""

import math
import random
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.slots import (
    HORIZON_NS,
    LATE_NS,
    LEEWAY_AHEAD_NS,
    LEEWAY_NS,
    book,
    interval_ns,
    most_at_once,
)

SECOND = 1_000_000_000
# As the settings allow, and below: fractions, and rates whose interval is no whole number.
RATES = st.one_of(st.integers(1, 5_000).map(float), st.floats(0.2, 5_000))
# How far the clock moves between two claims; a PostgreSQL server's may be set back, too.
STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 2_000_000_000), st.integers(-50_000_000, 50_000_000)),
        st.integers(0, 200_000_000),
        st.integers(0, 2_000),
    ),
    min_size=1,
    max_size=60,
)


def booked(rate, steps, *, start=10**12):
    interval, now, free = interval_ns(rate), start, 0
    slots: list[int] = []
    for step, lead, wanted in steps:
        now += step
        booking = book(
            next_slot_ns=free, now_ns=now, lead_ns=lead, interval=interval, wanted=wanted
        )
        slots += booking.slots
        free = booking.next_slot_ns
    return slots


def most_in(slots, window_ns):
    """Give the most slots in any half-open window."""
    most = first = 0
    for last, slot in enumerate(slots):
        while slot - slots[first] >= window_ns:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(rate=RATES, steps=STEPS)
def test_slots_are_never_closer_than_the_interval(rate, steps):
    slots = booked(rate, steps)
    apart = interval_ns(rate)
    assert all(late - early >= apart for early, late in pairwise(slots))


@given(rate=RATES, steps=STEPS, window_s=st.sampled_from([0.1, 1.0, 7.3, 60.0]))
def test_no_window_holds_more_than_the_limit(rate, steps, window_s):
    assert most_in(booked(rate, steps), round(window_s * SECOND)) <= rate * window_s + 1


@given(rate=st.integers(1, 5_000), steps=STEPS)
def test_a_second_holds_at_most_the_limit_even_with_late_departures(rate, steps):
    slots = booked(float(rate), steps)
    assert most_in(slots, SECOND) <= rate
    late = random.Random(rate)
    departures = sorted(slot + late.randint(0, LATE_NS) for slot in slots)
    assert most_in(departures, SECOND) <= rate


@given(rate=st.integers(1, 5_000), steps=STEPS, leeways=st.lists(st.booleans(), min_size=60))
def test_a_second_holds_at_most_the_limit_whoever_has_leeway(rate, steps, leeways):
    """The worst there can be: one call as late as it may, and the one a limit later on time."""
    interval, now, free, until = interval_ns(rate), 10**12, 0, 0
    calls: list[tuple[int, int]] = []
    for (step, lead, wanted), leeway in zip(steps, leeways, strict=False):
        now += step
        booking = book(
            next_slot_ns=free,
            now_ns=now,
            lead_ns=lead,
            interval=interval,
            wanted=wanted,
            leeway=leeway,
            leeway_until_ns=until,
        )
        calls += [(slot, LEEWAY_NS if leeway else LATE_NS) for slot in booking.slots]
        free, until = booking.next_slot_ns, booking.leeway_until_ns
    assert all(late - early >= interval for (early, _), (late, _) in pairwise(calls))
    for (early, late_ns), (later, _) in zip(calls, calls[rate:], strict=False):
        assert later - (early + late_ns) >= SECOND


def test_leeway_ends_a_limit_after_the_last_call_that_has_it():
    interval = interval_ns(1_000)
    ten = partial(book, next_slot_ns=0, lead_ns=0, interval=interval, wanted=10)
    first = ten(now_ns=SECOND, leeway=True)
    until = first.leeway_until_ns
    assert until >= first.slots[-1] + SECOND + LEEWAY_NS

    def apart(now):
        booking = ten(now_ns=now, leeway_until_ns=until)
        assert booking.leeway_until_ns == until  # it asked for none
        return booking.slots[1] - booking.slots[0]

    assert apart(until - 1) == first.slots[1] - first.slots[0] == pytest.approx(1_111_111, abs=9)
    assert apart(until) == interval


def test_a_call_with_leeway_is_booked_so_near_that_a_full_limit_later_is_not_booked_yet():
    assert LEEWAY_AHEAD_NS + 200_000_000 + LEEWAY_NS < SECOND


@pytest.mark.parametrize(("lead_ms", "first_ms"), [(8, 4), (200, 100), (500, 400)])
def test_with_leeway_slots_are_nearer_and_a_claim_that_takes_all_of_its_lead_still_has_them(
    lead_ms, first_ms
):
    booking = book(
        next_slot_ns=0,
        now_ns=SECOND,
        lead_ns=lead_ms * 1_000_000,
        interval=interval_ns(1_000),
        wanted=1,
        leeway=True,
    )
    assert booking.slots == (SECOND + first_ms * 1_000_000,)
    assert lead_ms * 1_000_000 <= first_ms * 1_000_000 + LEEWAY_NS


@given(
    rate=RATES,
    ahead=st.integers(0, 3 * SECOND),
    lead=st.integers(0, 2 * SECOND),
    wanted=st.integers(0, 5_000),
)
def test_a_booking_keeps_to_lead_horizon_and_share(rate, ahead, lead, wanted):
    now, interval = 10**12, interval_ns(rate)
    booking = book(
        next_slot_ns=now + ahead, now_ns=now, lead_ns=lead, interval=interval, wanted=wanted
    )
    assert len(booking.slots) <= min(wanted, max(1, math.floor(0.2 * SECOND / interval)))
    assert all(now + max(lead, ahead) <= slot <= now + HORIZON_NS for slot in booking.slots)
    if booking.slots:
        assert booking.next_slot_ns == booking.slots[-1] + interval
    else:
        assert booking.next_slot_ns == now + ahead


def test_nothing_is_saved_up_while_idle():
    interval = interval_ns(100)
    after_an_hour = book(
        next_slot_ns=0, now_ns=3_600 * SECOND, lead_ns=0, interval=interval, wanted=1_000
    )
    assert len(after_an_hour.slots) == most_at_once(interval) == 19
    assert after_an_hour.slots[0] == 3_600 * SECOND


@pytest.mark.parametrize("rate", [0.5, 1, 10, 30, 333, 5_000])
def test_claims_in_a_row_use_at_least_99_percent_of_the_rate(rate):
    interval, now, free, count = interval_ns(rate), 0, 0, 0
    while now < 60 * SECOND:
        booking = book(next_slot_ns=free, now_ns=now, lead_ns=0, interval=interval, wanted=10**6)
        count, free = count + len(booking.slots), booking.next_slot_ns
        now += 50_000_000
    assert count >= 0.99 * rate * 60
