"""Who gets the next slots: erasures first, bulk its tenth, read-backs their fifth."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.lanes import BULK_EVERY, MOST_CREDIT, QUARTERS, pick
from ledger.states import Lane

WAITING = st.fixed_dictionaries({lane: st.integers(0, 60) for lane in Lane})


def line(name, lanes):
    return {lane: [(name, lane, place) for place in range(n)] for lane, n in lanes.items()}


def fill(*, slots, deletions, reads, booked=0, credit=0):
    return pick(
        slots=slots,
        booked=booked,
        read_credit=credit,
        deletions=line("delete", deletions),
        reads=line("read", reads),
    )


@given(
    slots=st.integers(0, 80),
    booked=st.integers(0, 1_000),
    credit=st.integers(0, MOST_CREDIT),
    deletions=WAITING,
    reads=WAITING,
)
def test_slots_are_filled_while_there_is_work_each_once_and_in_order(
    slots, booked, credit, deletions, reads
):
    picked = fill(slots=slots, booked=booked, credit=credit, deletions=deletions, reads=reads)
    there = sum(deletions.values()) + sum(reads.values())
    assert len(picked.work) == min(slots, there)
    for name, lanes in (("delete", deletions), ("read", reads)):
        for lane in lanes:
            places = [work[2] for work in picked.work if work[:2] == (name, lane)]
            assert places == list(range(len(places)))
    assert 0 <= picked.read_credit <= MOST_CREDIT


@given(booked=st.integers(0, 99), looking=st.integers(0, 5_000))
def test_every_tenth_slot_is_the_bulk_lanes_whatever_else_waits(booked, looking):
    """Also when read-backs of erasures wait: their every fifth slot must not be always that one."""
    picked = fill(
        slots=100,
        booked=booked,
        deletions={Lane.ERASURE: 200, Lane.BULK: 200},
        reads={Lane.ERASURE: looking, Lane.BULK: 0},
    )
    bulk = [place for place, work in enumerate(picked.work) if work[1] is Lane.BULK]
    assert len(bulk) == 100 // BULK_EVERY
    assert all((booked + place) % BULK_EVERY == BULK_EVERY - 1 for place in bulk)


@given(credit=st.integers(0, MOST_CREDIT), booked=st.integers(0, 99), reads=WAITING)
def test_read_backs_take_a_fifth_at_most_while_deletions_wait(credit, booked, reads):
    picked = fill(
        slots=500,
        booked=booked,
        credit=credit,
        deletions={Lane.ERASURE: 500, Lane.BULK: 500},
        reads=reads,
    )
    count = sum(work[0] == "read" for work in picked.work)
    assert count <= (500 + credit) / (QUARTERS + 1)


def test_read_backs_get_their_whole_fifth():
    picked = fill(slots=500, deletions={Lane.ERASURE: 900}, reads={Lane.ERASURE: 900})
    assert sum(work[0] == "read" for work in picked.work) == 100


def test_read_backs_take_every_slot_when_no_deletion_waits():
    picked = fill(slots=50, deletions={}, reads={Lane.ERASURE: 40, Lane.BULK: 40})
    assert [work[0] for work in picked.work] == ["read"] * 50
    assert picked.read_credit == 0
    assert sum(work[1] is Lane.BULK for work in picked.work) == 10


def test_credit_saved_up_for_hours_buys_ten_reads_and_no_more():
    picked = fill(slots=1_000, deletions={Lane.BULK: 1_000}, reads={})
    assert picked.read_credit == MOST_CREDIT
    burst = fill(
        slots=12,
        credit=picked.read_credit,
        deletions={Lane.BULK: 100},
        reads={Lane.BULK: 100},
    )
    assert sum(work[0] == "read" for work in burst.work) == 10
