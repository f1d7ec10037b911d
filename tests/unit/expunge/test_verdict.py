"""When the demo may say that it proved something, and when not."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from expunge.demo.handing_in import Handed
from expunge.demo.orders import Size, make_orders
from expunge.demo.verdict import ask_simulator, faults_of, record_table
from ledger.model import Counts, RequestView
from ledger.states import Kind, Lane, RequestState
from memos_api.simulator.process import Remaining

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SIZE = Size(users=6, memories_per_user=10, purged=2, ids=20, rate_per_second=1)
FILE = Handed(name="ids.csv", receipts=(), rejected=0)


def a_view(state=RequestState.COMPLETE, **counts):
    return RequestView(
        id="r",
        project="default",
        kind=Kind.MEMORIES,
        lane=Lane.BULK,
        state=state,
        generation=1,
        verify="full",
        result=None,
        certainty=None,
        counts=Counts(**counts),
        attempts=3,
        retried=2,
        chunks=1,
        held=False,
        reason=None,
        created_at=NOW,
        submitted_at=NOW,
        due_at=None,
        not_before=None,
        finished_at=NOW,
    )


class World:
    """A simulator's control side over a dictionary."""

    def __init__(self):
        self.by_user = {
            f"u-{user}": [f"u-{user}/{number}" for number in range(10)] for user in range(6)
        }

    def delete(self, ids, users):
        gone = set(ids)
        for user in users:
            self.by_user[user] = []
        for user, held in self.by_user.items():
            self.by_user[user] = [each for each in held if each not in gone]

    def remaining(self, *, ids=(), users=()):
        there = {each for held in self.by_user.values() for each in held}
        return Remaining(
            total=len(there),
            users={user: len(self.by_user[user]) for user in users},
            ids=[each for each in ids if each in there],
        )


@pytest.fixture
def world():
    return World()


@pytest.fixture
def orders(world, tmp_path):
    return make_orders(world.by_user, tmp_path, size=SIZE, seed=5)


def test_the_files_order_what_the_demo_expects(orders):
    lines = orders.ids_file.read_text().splitlines()[1:]
    ids = [line.split(",")[0] for line in lines]
    assert set(ids) == set(orders.ids)
    assert len(ids) == len(orders.ids) + 1  # one comes twice
    assert len([each for each in orders.ids if each.startswith("gone-")]) == orders.unknown == 1
    assert not {each.partition("/")[0] for each in orders.ids} & set(orders.purged)
    assert len(orders.purges_file.read_text().splitlines()) == 2


def test_truth_agrees_when_exactly_what_was_ordered_is_gone(world, orders):
    world.delete(orders.ids, orders.purged)
    assert ask_simulator(world, orders).agrees


def test_truth_disagrees_when_an_id_is_still_there(world, orders):
    world.delete(orders.ids[1:], orders.purged)
    truth = ask_simulator(world, orders)
    assert (truth.ids_left, truth.agrees) == (1, False)


def test_truth_disagrees_when_a_purged_user_has_something(world, orders):
    world.delete(orders.ids, orders.purged[1:])
    truth = ask_simulator(world, orders)
    assert (truth.purged_left, truth.agrees) == (10, False)


def test_truth_disagrees_when_a_bystander_is_gone(world, orders):
    world.delete(orders.ids, orders.purged)
    bystander = next(held[0] for held in world.by_user.values() if held)
    world.delete([bystander], [])
    truth = ask_simulator(world, orders)
    assert (truth.touched, truth.agrees) == (1, False)


def test_truth_disagrees_when_one_bystander_went_for_another(world, orders):
    world.delete(orders.ids, orders.purged)
    users = [user for user, held in world.by_user.items() if held]
    world.by_user[users[0]].append(world.by_user[users[1]].pop())
    truth = ask_simulator(world, orders)
    assert (truth.bystanders, truth.touched, truth.agrees) == (truth.bystanders_due, 2, False)


def test_a_record_is_without_fault_only_when_all_is_known_to_be_gone():
    good = a_view(unique=3, acknowledged=1, verified_absent=1, already_absent=1)
    assert faults_of([FILE], [[good]]) == []
    for name in ("pending", "still_present", "refused", "unknown", "cancelled"):
        bad = replace(good, counts=replace(good.counts, **{name: 1}))
        assert len(faults_of([FILE], [[good, bad]])) == 1
    for state in set(RequestState) - {RequestState.COMPLETE}:
        assert len(faults_of([FILE], [[good, replace(good, state=state)]])) == 1


def test_the_table_adds_up_the_requests_of_a_file_next_to_the_truth():
    view = a_view(requested=4, unique=3, verified_absent=2, already_absent=1)
    lines = record_table([FILE], [[view, view]], [7])
    rows = {line.rsplit(maxsplit=1)[0]: line.rsplit(maxsplit=1)[1] for line in lines}
    assert rows["asked"] == "8"
    assert rows["verified absent"] == "4"
    assert rows["retried calls"] == "4"
    assert rows["truly still there"] == "7"
