"""What stops traffic and what lets it go on: rests, the breaker, one call on trial."""

import json

import pytest
from sqlalchemy import update

from ledger.schema import account, chunk, event_body, project
from ledger.stops import PATIENCE, TRIPS
from ledger.tasks import Dead, Delivered, Retry, Unsent
from tests.support.ledger_world import settled

SECOND = 1_000_000_000
RETRY = Retry(delay_s=0, burn=False)


def ids(n):
    return [f"m-{number}" for number in range(n)]


# -- pauses and strikes ---------------------------------------------------------------------------


def acme(world):
    return world.row(account, account.c.name == "acme")


def test_the_longest_pause_of_a_batch_counts_and_strikes_go_up_by_one(world):
    world.submit(ids(3), chunk_size=1)
    tasks = [world.claim_one() for _ in range(3)]
    world.record(
        *(
            settled(task, RETRY, pause_account_s=s, reason=f"http_{s}")
            for task, s in zip(tasks, [2.0, 9.0, 4.0], strict=True)
        )
    )
    row = acme(world)
    assert row.paused_until_ns == row.next_slot_ns == world.clock.ns + 9 * SECOND
    assert (row.strikes, row.pause_reason) == (1, "http_9.0")


def test_a_shorter_pause_does_not_end_a_longer_one(world):
    world.submit(ids(2), chunk_size=1)
    one, other = world.claim_one(), world.claim_one()
    world.record(settled(one, RETRY, pause_account_s=60.0))
    world.record(settled(other, RETRY, pause_account_s=1.0))
    assert acme(world).paused_until_ns == world.clock.ns + 60 * SECOND
    # Both were claimed before the first of them stopped anything.
    assert acme(world).strikes == 1


def test_after_a_rest_one_call_goes_first_and_a_good_answer_lets_the_others_follow(world):
    world.submit(ids(20), chunk_size=1)
    world.record(settled(world.claim_one(), RETRY, pause_account_s=60.0))
    assert not world.claim().tasks
    world.clock.tick(60)
    (trial,) = world.claim().tasks
    assert trial.strikes == 1
    world.clock.tick(1)
    assert not world.claim().tasks
    world.record(settled(trial, RETRY, pause_account_s=120.0))
    assert acme(world).strikes == 2
    world.clock.tick(120)
    (trial,) = world.claim().tasks
    world.record(settled(trial, Unsent()))
    (trial,) = world.claim().tasks
    world.record(settled(trial, Delivered()))
    assert acme(world).strikes == 0
    assert len(world.claim().tasks) > 1


def test_a_trial_that_is_refused_rests_the_account_as_long_as_it_was_told_and_not_for_its_lease(
    world,
):
    world.submit(ids(3), chunk_size=1)
    first, older = world.claim_one(), world.claim_one()
    world.record(settled(first, RETRY, pause_account_s=1.0))
    world.clock.tick(1)
    (trial,) = world.claim().tasks
    assert acme(world).paused_until_ns > world.clock.ns + 10 * SECOND
    world.record(settled(trial, RETRY, pause_account_s=2.0))
    row = acme(world)
    assert row.paused_until_ns == row.next_slot_ns == world.clock.ns + 2 * SECOND
    assert row.strikes == 2
    # What was claimed before says nothing new, and shortens nothing.
    world.record(settled(older, RETRY, pause_account_s=1.0))
    assert acme(world).paused_until_ns == world.clock.ns + 2 * SECOND


def test_a_trial_whose_worker_died_is_tried_anew_when_its_lease_is_over(world):
    world.submit(ids(5), chunk_size=1)
    world.record(settled(world.claim_one(), RETRY, pause_account_s=1.0))
    world.clock.tick(1)
    assert len(world.claim(lease_s=30).tasks) == 1
    world.clock.tick(29)
    assert not world.claim().tasks
    world.clock.tick(1.1)
    world.sweep()
    (again,) = world.claim().tasks
    assert again.strikes == 1


@pytest.mark.parametrize(
    ("move", "left"),
    [
        (Delivered(), 0),
        (Retry(delay_s=1, burn=True), 3),
        (Dead(bucket="refused"), 0),
        (Unsent(), 3),
    ],
)
def test_only_a_good_answer_ends_the_strikes(world, move, left):
    world.submit(["m"])
    task = world.claim_one()
    world.database.write(lambda conn: conn.execute(update(account).values(strikes=3)))
    world.record(settled(task, move))
    assert acme(world).strikes == left
    assert world.row(account, account.c.name == "beta").strikes == 3


def test_a_project_is_stopped_once_with_its_first_reason_until_somebody_resumes_it(world):
    world.submit(ids(2), chunk_size=1)
    one, other = world.claim_one(), world.claim_one()
    world.record(settled(one, RETRY, pause_project="code_40132"))
    world.record(settled(other, RETRY, pause_project="later"))
    row = world.row(project, project.c.name == "shop")
    assert (row.paused, row.pause_reason) == (1, "code_40132")
    world.clock.tick(10_000)
    assert not world.claim().tasks
    kinds = [json.loads(row.payload)["type"] for row in world.rows(event_body)]
    assert kinds.count("project.paused") == 1
    (pause,) = world.ledger.pauses()
    assert (pause.scope, pause.name, pause.reason) == ("project", "shop", "code_40132")
    assert world.ledger.resume_project("shop", principal="op")
    assert len(world.claim().tasks) == 2


# -- the breaker ----------------------------------------------------------------------------------


def shop(world):
    return world.row(project, project.c.name == "shop")


def fail(world, *tasks, **fields):
    world.record(
        *(settled(task, RETRY, outage=True, reason="http_503", **fields) for task in tasks)
    )


def break_project(world, failures=TRIPS):
    tasks = [
        task for _ in range(failures) for task in world.claim(1).tasks if not world.clock.tick(1)
    ]
    fail(world, *tasks)
    return tasks


def test_failures_in_a_row_stop_the_project_and_no_other(world):
    world.submit(ids(20), chunk_size=1)
    break_project(world, TRIPS - 1)
    assert shop(world).broken_at is None
    fail(world, world.claim_one())
    world.submit(ids(20), chunk_size=1, project="far")
    row = shop(world)
    assert (row.failures, row.break_reason) == (TRIPS, "http_503")
    assert row.open_until_ns > world.clock.ns
    assert row.halted_ns == world.clock.ns
    assert {task.project for task in world.claim().tasks} == {"far"}


def test_a_good_answer_in_between_ends_the_row(world):
    world.submit(ids(20), chunk_size=1)
    for _ in range(3):
        break_project(world, TRIPS - 1)
        world.clock.tick(1)
        (good,) = world.claim(1).tasks
        world.record(settled(good, Delivered()))
    assert shop(world).failures == 0
    assert shop(world).broken_at is None


def test_of_a_broken_project_one_call_goes_at_growing_intervals_until_one_is_answered(world):
    world.submit(ids(40), chunk_size=1)
    break_project(world)
    waits, began = [], world.clock.ns
    for _ in range(8):
        world.clock.tick((shop(world).open_until_ns - began) / SECOND - 0.001)
        assert not world.claim().tasks
        world.clock.tick(0.001)
        (trial,) = world.claim(lease_s=600).tasks
        assert trial.trial
        waits.append((world.clock.ns - began) / SECOND)
        world.clock.tick(5)
        assert not world.claim().tasks  # not while the trial is under way
        fail(world, trial)
        began = world.clock.ns
    floors = [min(60, 2**n) for n in range(8)]
    assert all(floor <= wait <= 2 * floor + 0.2 for floor, wait in zip(floors, waits, strict=True))
    assert [one.burnt for one in world.rows(chunk)] == [0] * 40
    world.clock.tick(121)
    world.record(settled(world.claim().tasks[0], Delivered()))
    row = shop(world)
    assert (row.failures, row.open_until_ns, row.broken_at, row.break_reason) == (0, 0, None, None)
    assert len(world.claim().tasks) > 1
    kinds = [json.loads(one.payload)["type"] for one in world.rows(event_body)]
    assert (kinds.count("project.broken"), kinds.count("project.mended")) == (1, 1)


def test_answers_to_calls_of_before_the_outage_neither_end_it_nor_lengthen_it(world):
    world.submit(ids(40), chunk_size=1)
    early = world.claim(3).tasks
    world.clock.tick(1)
    break_project(world)
    before = shop(world)
    fail(world, early[0])
    world.record(settled(early[1], Delivered()))
    assert shop(world) == before


def test_a_trial_that_was_not_sent_leaves_the_turn_to_another(world):
    world.submit(ids(40), chunk_size=1)
    break_project(world)
    world.clock.tick(2)
    (trial,) = world.claim(lease_s=600).tasks
    world.record(settled(trial, Unsent()))
    (again,) = world.claim(lease_s=600).tasks
    assert again.trial


def test_read_backs_and_deletions_share_the_one_trial(world):
    done = world.submit(["m"], verify="full")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.submit(ids(20), chunk_size=1)
    break_project(world)
    world.clock.tick(10)
    assert len(world.claim().tasks) == 1
    assert world.view(done.id).state.value == "verifying"


def test_an_outage_of_more_than_a_day_uses_attempts_up_again(world):
    world.submit(ids(20), chunk_size=1)
    break_project(world)
    world.clock.tick(10)
    change = update(project).where(project.c.name == "shop")
    for failed, patient in ((PATIENCE["delete"] - 1, True), (PATIENCE["delete"], False)):
        failures = TRIPS + failed
        values = change.values(failures=failures, open_until_ns=0)
        world.database.write(lambda conn, values=values: conn.execute(values))
        world.clock.tick(2)
        (late,) = world.claim(lease_s=1).tasks
        assert late.trial is patient
        world.record(settled(late, Unsent()))


@pytest.mark.fault("F81")
@pytest.mark.parametrize("hours", [48, -48])
def test_a_wall_clock_that_jumps_in_an_outage_uses_up_no_attempt(world, hours):
    world.submit(ids(20), chunk_size=1)
    break_project(world)
    world.clock.tick(10)
    world.clock.wall_ns += hours * 3_600 * SECOND
    (trial,) = world.claim().tasks
    assert trial.trial
