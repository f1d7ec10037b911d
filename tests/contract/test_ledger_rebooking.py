"""Another slot for a call that missed its own: one of the account's, and only while it may call."""

from itertools import pairwise

from ledger.slots import HORIZON_NS, interval_ns
from tests.support.ledger_world import RATE

NAME = "acme"


def test_slots_given_anew_are_as_far_apart_from_each_other_and_from_claimed_ones(world):
    world.submit([f"m{i}" for i in range(40)], chunk_size=1)
    world.clock.tick(5)
    slots = [task.slot_ns for task in world.claim(3).tasks]
    slots += [world.ledger.rebook(NAME, lead_s=0.0) for _ in range(3)]
    slots += [task.slot_ns for task in world.claim(3).tasks]
    slots += [world.ledger.rebook(NAME, lead_s=0.0)]
    assert len(slots) == 10
    assert all(late - early >= interval_ns(RATE) for early, late in pairwise(slots))


def test_it_is_no_nearer_than_the_call_can_be_made(world):
    world.submit(["m"])
    world.clock.tick(5)
    assert world.ledger.rebook(NAME, lead_s=0.2) >= world.clock.ns + 200_000_000


def test_none_is_given_that_is_farther_away_than_anybody_may_book(world):
    world.submit(["m"])
    world.clock.tick(5)
    given = []
    while (slot := world.ledger.rebook(NAME, lead_s=0.0)) is not None:
        given.append(slot)
    assert given[-1] <= world.clock.ns + HORIZON_NS < given[-1] + interval_ns(RATE)
    world.clock.tick(1)
    assert world.ledger.rebook(NAME, lead_s=0.0) == given[-1] + interval_ns(RATE)


def test_an_account_that_rests_or_is_paused_gives_none(world):
    world.submit(["m"])
    world.clock.tick(5)
    world.sql("UPDATE account SET paused_until_ns = :later", later=world.clock.ns + 1)
    assert world.ledger.rebook(NAME, lead_s=0.0) is None
    world.clock.tick(1)
    assert world.ledger.rebook(NAME, lead_s=0.0) is not None
    world.sql("UPDATE account SET paused = 1, stop_reason = 'test'")
    assert world.ledger.rebook(NAME, lead_s=0.0) is None
