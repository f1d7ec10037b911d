"""The sweep: lapsed leases, reboots, what is stuck, who may sweep, and what lies waiting."""

import threading
from itertools import pairwise

import pytest

from ledger.schema import account, attempt, chunk, event_body, lease, readback
from ledger.states import Kind, Result, Sight
from ledger.sweep import follow_clock
from ledger.tasks import Delivered, Retry, Seen
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import TestClock, settled

SECOND = 1_000_000_000


def ids(n):
    return [f"m{i}" for i in range(n)]


# -- leases of work -------------------------------------------------------------------------------


def test_a_lapsed_lease_makes_the_chunk_due_doubtful_and_one_attempt_older(world):
    receipt = world.submit(ids(3))
    task = world.claim_one(lease_s=10)
    world.clock.tick(9.99)
    assert world.sweep().lapsed == 0
    world.clock.tick(0.01)
    swept = world.sweep()
    assert (swept.lapsed, swept.due) == (1, True)
    (row,) = world.chunks(receipt.id)
    assert (row.state, row.doubtful, row.burnt, row.lease_until_ns) == ("due", 1, 1, 0)
    tried = world.row(attempt, attempt.c.claim == task.claim)
    assert (tried.outcome, tried.reason) == ("unknown", "lease_lapsed")
    view = world.view(receipt.id)
    assert (view.attempts, view.retried) == (1, 1)
    assert sum(b'"leases.lapsed"' in bytes(row.payload) for row in world.rows(event_body)) == 1


def test_a_chunk_whose_leases_always_lapse_is_given_up_as_unknown(world):
    """It may be what kills the workers."""
    receipt = world.submit(ids(3), verify="none")
    for _ in range(3):
        world.clock.tick(4)
        world.claim_one(lease_s=10)
        world.clock.tick(10)
        world.sweep(max_attempts=3)
    view = world.view(receipt.id)
    assert (view.result, view.counts.unknown) == (Result.FAILED, 3)
    assert (view.attempts, view.retried) == (3, 2)
    assert not world.claim().tasks
    world.check_books()


def test_one_that_is_given_up_so_is_read_back_all_the_same(world):
    receipt = world.submit(ids(3), verify="full")
    for _ in range(3):
        world.clock.tick(4)
        world.claim_one(lease_s=10)
        world.clock.tick(10)
        world.sweep(max_attempts=3)
    world.run(Memos())
    view = world.view(receipt.id)
    assert (view.result, view.counts.verified_absent) == (Result.COMPLETE, 3)
    world.check_books()


@pytest.mark.fault("F11")
def test_chunks_whose_leases_lapse_together_again_come_back_apart_and_farther_each_time(world):
    """One of them may be what kills the workers; the others must get away from it."""
    world.submit(ids(12), chunk_size=1)
    gaps = []
    for _ in range(4):
        world.clock.tick(60)
        together = world.claim(12, lease_s=10).tasks
        assert len(together) == 12
        world.clock.tick(10)
        world.sweep(max_attempts=9)
        due = sorted(max(row.due_ns, world.clock.ns) for row in world.rows(chunk))
        gaps.append(min(later - sooner for sooner, later in pairwise(due)))
    assert gaps[0] == 0  # at once: a killed worker is no reason to wait
    assert 0 < gaps[1] < gaps[2] < gaps[3]


def test_a_read_back_whose_leases_always_lapse_saw_nothing(world):
    receipt = world.submit(["m"], verify="full")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    for _ in range(3):
        world.clock.tick(5)
        world.claim_one(lease_s=10)
        world.clock.tick(10)
        world.sweep(max_attempts=3)
    view = world.view(receipt.id)
    assert view.counts.unknown == 1
    assert (view.attempts, view.retried) == (4, 0)


def test_hundreds_of_lapsed_leases_are_taken_back_at_once(world):
    world.ledger.register(projects={}, rates={"acme": 5_000.0}, decides=True)
    world.submit(ids(450), chunk_size=1)
    world.claim(450)
    world.claim(450)
    claimed = len(world.tasks)
    assert claimed > 400
    world.clock.tick(61)
    assert world.sweep().lapsed == claimed
    assert {row.state for row in world.rows(chunk)} == {"due"}
    world.check_books()


def test_only_the_attempt_of_the_lapsed_lease_is_closed(world):
    world.submit(ids(2), chunk_size=1)
    first, second = world.claim_one(lease_s=5), world.claim_one(lease_s=50)
    world.clock.tick(6)
    world.sweep()
    open_ = world.rows(attempt, attempt.c.outcome.is_(None))
    assert [row.claim for row in open_] == [second.claim]
    assert first.claim != second.claim


# -- another clock --------------------------------------------------------------------------------


def test_after_a_reboot_every_lease_lapses_and_no_slot_is_given_twice(world):
    receipt = world.submit(ids(8), chunk_size=2)
    world.ledger.hold_lease("sweep", owner="dead", seconds=600)
    one, other = world.claim_one(), world.claim_one()
    world.record(settled(other, Retry(delay_s=500, burn=True), pause_account_s=500.0))
    world.sql("UPDATE project SET open_until_ns = :t", t=world.clock.ns + 500 * SECOND)
    # The new clock starts far below the old one.
    world.database.clock = fresh = TestClock(source="another boot")
    fresh.ns = 7 * SECOND
    world.clock = fresh
    swept = world.sweep()
    assert (swept.lapsed, swept.due) == (1, True)
    assert world.ledger.hold_lease("sweep", owner="new", seconds=5)
    row = world.row(account, account.c.name == "acme")
    assert row.paused_until_ns == 0
    # What was stopped before the reboot is tried with one call first.
    assert row.strikes == 1
    world.sql("UPDATE account SET strikes = 0")
    tasks = world.claim().tasks
    assert len(tasks) == 4
    assert tasks[0].slot_ns == 7 * SECOND + row.interval_ns
    assert {task.chunk_id: task.doubtful for task in tasks}[one.chunk_id]
    assert world.view(receipt.id).attempts == 2
    # Once only.
    world.sweep()
    assert len(world.rows(chunk, chunk.c.state == "leased")) == 4


def test_read_backs_that_waited_are_due_after_a_reboot_and_parked_chunks_stay_parked(world):
    parked = world.submit(ids(2), verify="full", idempotency_key="k")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.sql("UPDATE chunk SET state = 'due', due_ns = :t", t=2**62)
    world.clock.source = "another boot"
    follow_clock(world.database)
    assert {row.due_ns for row in world.rows(readback)} == {0}
    assert {row.due_ns for row in world.chunks(parked.id)} == {2**62}


def test_leeway_of_before_a_reboot_does_not_last_for_as_long_as_the_host_ran(world):
    world.submit(ids(2))
    world.clock.tick(3_600)
    world.claim(leeway={"acme"})
    assert world.row(account, account.c.name == "acme").leeway_until_ns > 0
    world.clock.source = "another boot"
    follow_clock(world.database)
    assert world.row(account, account.c.name == "acme").leeway_until_ns == 0


def test_the_same_clock_changes_nothing(world):
    world.submit(ids(2))
    world.claim_one()
    before = world.rows(chunk), world.rows(account)
    follow_clock(world.database)
    assert (world.rows(chunk), world.rows(account)) == before


# -- what is stuck --------------------------------------------------------------------------------


def test_a_request_whose_worker_died_before_the_next_step_goes_on(world):
    """Neither the outcome's step nor any later one was taken by the one who recorded it."""
    memos = Memos(ids(3))
    receipt = world.submit(ids(3), verify="full")
    for _ in range(40):
        world.clock.tick(3)
        world.record(*(settled(task, memos(task)) for task in world.claim().tasks))
        world.sweep()
        if world.view(receipt.id).finished_at:
            break
    assert world.view(receipt.id).result is Result.COMPLETE


@pytest.mark.parametrize("order", [{"kind": Kind.USER, "subject": "u"}, {"verify": "sample:2"}])
def test_the_sweep_alone_brings_any_request_to_its_end(world, order):
    memos = Memos(ids(30), subjects={"u"}, stubborn={"u": 1, **dict.fromkeys(ids(30), 1)})
    receipt = world.submit(() if "kind" in order else ids(30), **order)
    for _ in range(60):
        world.clock.tick(3)
        world.record(*(settled(task, memos(task)) for task in world.claim().tasks))
        world.sweep()
        if world.view(receipt.id).finished_at:
            break
    view = world.view(receipt.id)
    assert view.result is Result.COMPLETE
    world.check_books()


def test_probes_that_came_in_while_nobody_looked_are_judged(world):
    receipt = world.submit(ids(5))
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    memos = Memos()
    world.record(settled(world.claim_one(), memos(world.tasks[-1])))
    world.clock.tick(2)
    tasks = world.claim().tasks
    assert len(tasks) == 3
    world.record(*(settled(task, Seen(sight=Sight.ABSENT)) for task in tasks))
    world.sweep()
    assert world.view(receipt.id).counts.already_absent == 5


def test_many_stuck_requests_are_all_reached(world):
    receipts = [world.submit([f"m{n}"], verify="none") for n in range(105)]
    world.sql("UPDATE chunk SET state = 'done'")
    world.sql("UPDATE request SET pending = 0, acknowledged = 1")
    for _ in range(2):
        world.sweep()
    assert all(world.view(receipt.id).finished_at for receipt in receipts)


# -- what lies waiting ----------------------------------------------------------------------------


def test_the_sweep_says_whether_work_waits_and_how_long_nobody_claimed(world):
    assert not world.sweep().due
    world.submit(ids(1))
    world.record(settled(world.claim_one(), Retry(delay_s=30, burn=True)))
    world.clock.tick(10)
    assert not world.sweep().due
    world.clock.tick(20)
    swept = world.sweep()
    assert swept.due
    assert swept.silent_s == pytest.approx(30.0)


@pytest.mark.parametrize(
    "stop",
    [
        "UPDATE request SET held = 1",
        "UPDATE project SET paused = 1, pause_reason = 'x'",
        "UPDATE account SET paused_until_ns = 9000000000000000000",
    ],
)
def test_work_that_may_not_go_on_is_not_waiting(world, stop):
    world.submit(ids(1))
    assert world.sweep().due
    world.sql(stop)
    assert not world.sweep().due


# -- named leases and heartbeats ------------------------------------------------------------------


def test_a_named_lease_has_one_owner_until_it_lapses(world):
    hold = world.ledger.hold_lease
    assert hold("sweep", owner="a", seconds=5)
    assert not hold("sweep", owner="b", seconds=5)
    assert hold("seal", owner="b", seconds=5)
    world.clock.tick(4)
    assert hold("sweep", owner="a", seconds=5)
    world.clock.tick(4.9)
    assert not hold("sweep", owner="b", seconds=5)
    world.clock.tick(0.1)
    assert hold("sweep", owner="b", seconds=5)
    assert not hold("sweep", owner="a", seconds=5)
    assert world.row(lease, lease.c.name == "sweep").token == 2


def test_of_many_who_ask_at_once_one_gets_the_lease(world):
    start, won = threading.Barrier(6), []

    def ask(name):
        start.wait(10)
        won.append(world.ledger.hold_lease("sweep", owner=name, seconds=5))

    threads = [threading.Thread(target=ask, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(won) == [False] * 5 + [True]


# -- what takes its time --------------------------------------------------------------------------


def test_a_large_request_is_named_rather_than_ended_by_who_has_other_work(world):
    receipt = world.submit(ids(4), chunk_size=1, verify="none")
    small = world.submit(ids(2), chunk_size=1, verify="none")
    world.record(*(settled(task, Delivered()) for task in world.claim(lead_s=0.0).tasks))
    while tasks := world.claim().tasks:
        world.record(*(settled(task, Delivered()) for task in tasks))
        world.clock.tick(0.1)
    assert world.advance(receipt.id, most_chunks=3) is None
    swept = world.sweep(most_chunks=3)
    assert (swept.large, [one.request_id for one in swept.ended]) == ((receipt.id,), [small.id])
    assert world.view(receipt.id).result is None
    assert world.advance(receipt.id, most_chunks=4).result is Result.COMPLETE
    assert world.sweep(most_chunks=3).large == ()


def test_a_large_request_whose_calls_are_under_way_is_not_named(world):
    world.submit(ids(4), chunk_size=1)
    assert world.sweep(most_chunks=3).large == ()
    world.claim_one()
    assert world.sweep(most_chunks=3).large == ()
