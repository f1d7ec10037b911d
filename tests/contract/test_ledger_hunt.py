"""Finding unknown ids in a refused batch: few calls, every id under its own outcome, no id lost."""

import random
from math import comb, log2

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.states import ChunkState, RequestState
from ledger.tasks import Dead, Delivered, Move, Retry, Split
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import places_and_ids, settled


def carry_out(world, unknown, n, *, chunk_size=100):
    """Order *n* ids of which those at the places *unknown* were never there; give the calls."""
    ids = [f"m-{number:06}" for number in range(n)]
    memos = Memos(one for place, one in enumerate(ids) if place not in unknown)
    receipt = world.submit(ids, chunk_size=chunk_size, verify="none")
    calls = 0

    def answer(task):
        nonlocal calls
        calls += 1
        return memos(task)

    world.run(answer, seconds=100_000)
    view = world.view(receipt.id)
    assert view.state is RequestState.COMPLETE
    assert view.counts.already_absent == len(unknown)
    assert view.counts.acknowledged == n - len(unknown)
    assert not memos.there
    assert places_and_ids(world, receipt.id) == dict(enumerate(ids))
    return calls


@pytest.mark.fault("F66")
@pytest.mark.parametrize("k", [1, 2, 4, 10])
def test_unknown_ids_cost_at_most_1_6_times_the_information_they_are(world, k):
    chance = random.Random(k)
    found = [carry_out(world, set(chance.sample(range(100), k)), 100) for _ in range(4)]
    assert sum(found) / len(found) <= 1.6 * log2(comb(100, k)), found


def test_one_unknown_id_in_a_thousand_costs_less_than_three_times_the_ideal(world):
    """100,000 ids in chunks of 100; the ideal is a call a chunk, or the information, if more."""
    n, k = (100_000, 100) if world.database.is_sqlite else (20_000, 20)
    calls = carry_out(world, set(random.Random(7).sample(range(n), k)), n)
    ideal = max(n / 100, log2(comb(n, k)))
    assert calls <= 3 * ideal
    print(f"{calls} calls, {calls / ideal:.2f} times the ideal {ideal:.0f}")  # noqa: T201


@pytest.mark.parametrize("place", [0, 1, 49, 50, 98, 99])
def test_one_unknown_id_costs_ten_calls_wherever_it_stands(world, place):
    assert carry_out(world, {place}, 100) <= 10


@pytest.mark.parametrize(("n", "most"), [(1, 1), (2, 3), (3, 6), (100, 199)])
def test_a_batch_of_unknown_ids_only_ends_with_a_bounded_number_of_calls(world, n, most):
    assert carry_out(world, set(range(n)), n) <= most


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_whatever_is_unknown_is_found_and_nothing_is_lost(world, data):
    n = data.draw(st.integers(1, 40))
    unknown = data.draw(st.sets(st.integers(0, n - 1)))
    chunk_size = data.draw(st.integers(1, 40))
    carry_out(world, unknown, n, chunk_size=chunk_size)


def test_the_second_half_is_never_sent_when_it_must_hold_the_culprit(world):
    world.submit(["a", "b", "c", "d"])
    world.record(settled(world.claim_one(), Split()))
    first = world.claim_one()
    assert first.ids == ("a", "b")
    assert not world.claim().tasks
    for request_id in world.record(settled(first, Delivered())):
        world.advance(request_id)
    assert world.claim_one().ids == ("c",)


def test_what_nothing_is_known_about_is_sent_together_once_the_culprit_is_found(world):
    world.submit([*"abcdefgh"])
    answers: list[Move] = [Split(), Split(), Split(), Delivered(was_absent=True)]
    seen = []
    for answer in answers:
        task = world.claim_one()
        seen.append("".join(task.ids))
        for request_id in world.record(settled(task, answer)):
            world.advance(request_id)
    assert seen == ["abcdefgh", "abcd", "ab", "a"]
    assert "".join(world.claim_one().ids) == "bcdefgh"


@pytest.mark.parametrize("answer", [Dead(bucket="unknown"), Dead(bucket="refused")])
def test_a_half_that_is_given_up_keeps_nothing_of_the_other_one_back(world, answer):
    receipt = world.submit(["a", "b"])
    world.record(settled(world.claim_one(), Split()))
    for request_id in world.record(settled(world.claim_one(), answer)):
        world.advance(request_id)
    assert world.claim_one().ids == ("b",)
    assert world.view(receipt.id).counts.pending == 1


def test_the_sweep_goes_on_where_a_killed_worker_left_a_hunt(world):
    world.submit(["a", "b"])
    world.record(settled(world.claim_one(), Split()))
    assert world.record(settled(world.claim_one(), Delivered()))  # and nobody advances
    assert not world.claim().tasks
    world.sweep()
    assert world.claim_one().ids == ("b",)


def test_a_half_that_is_tried_again_keeps_the_other_one_waiting(world):
    world.submit(["a", "b"])
    world.record(settled(world.claim_one(), Split()))
    world.record(settled(world.claim_one(), Retry(delay_s=5, burn=True, doubtful=True)))
    world.sweep()
    assert not world.claim().tasks
    world.clock.tick(5)
    assert world.claim_one().ids == ("a",)


def test_a_hunt_stands_still_while_its_request_is_held_and_goes_on_afterwards(world):
    receipt = world.submit(["a", "b", "c", "d"])
    world.record(settled(world.claim_one(), Split()))
    first = world.claim_one()
    world.ledger.hold(receipt.id, principal="op", reason="look")
    for request_id in world.record(settled(first, Delivered())):
        world.advance(request_id)
    world.sweep()
    assert not world.claim().tasks
    world.ledger.release(receipt.id, principal="op")
    world.sweep()
    assert world.claim_one().ids == ("c",)
    assert not world.claim().tasks


def test_a_cancelled_request_ends_in_mid_hunt_with_right_counts(world):
    receipt = world.submit(["a", "b", "c", "d"], verify="none")
    world.record(settled(world.claim_one(), Split()))
    world.record(settled(world.claim_one(), Delivered()))
    world.ledger.cancel(receipt.id, principal="op", reason="stop", policy=world.policy)
    world.sweep()
    counts = world.view(receipt.id).counts
    assert (counts.acknowledged, counts.cancelled, counts.pending) == (2, 2, 0)
    assert not world.chunks(receipt.id, ChunkState.DUE)
