"""`expunge worker` as operators meet it: starting, ending, dying, logging."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.stack import Stack, until

DEADLINE_S = 1.0
GRACE_S = 2.0


@pytest.fixture
def stack(tmp_path):
    with Stack(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}", rate=100) as running:
        yield running


def busy_worker(stack, *, memories=3_000, **changed):
    """Start a worker and wait until it makes calls; its work lasts for half a minute."""
    worker = stack.start_worker(**changed)
    seeded = stack.control.seed(users=1, memories=memories, seed=3)
    stack.submit(seeded.memory_ids, chunk_size=1)
    stack.wait_for_calls(20)
    return worker


def end(worker, seconds):
    """Wait for the end; gives exit code and seconds it took."""
    started = time.monotonic()
    code = worker.wait(seconds + 5)
    return code, time.monotonic() - started


def complaints(worker):
    return [line for line in worker.log_lines() if line["level"] != "info"]


def assert_ended_in_order(stack, worker):
    code, took_s = end(worker, DEADLINE_S + GRACE_S)
    assert code == 0, worker.log.read_text()
    assert took_s < DEADLINE_S + GRACE_S + 0.3  # the test's own share of a busy machine
    assert worker.members() == {}
    stack.assert_nothing_in_doubt()


def all_answered(stack):
    """No call of the simulator's journal is without an outcome, on either side."""
    calls = stack.control.journal()
    made = stack.scalar("SELECT count(*) FROM attempt WHERE outcome <> 'unsent'")
    return made == len(calls) and all(call.status is not None for call in calls)


@pytest.mark.fault("F6")
def test_a_term_lets_calls_under_way_end_and_leaves_nothing_in_doubt(stack):
    worker = busy_worker(stack)

    worker.terminate()

    assert_ended_in_order(stack, worker)
    assert all_answered(stack)
    assert stack.views()[0].counts.pending > 0  # it was in the middle of it
    assert stack.views()[0].retried == 0
    levels = {line["level"] for line in worker.log_lines()}
    assert (levels, worker.stdout) == ({"info"}, "")  # nothing to complain about


def test_a_term_to_the_whole_group_ends_in_time_although_all_calls_run_into_their_deadline(stack):
    worker = busy_worker(stack)
    stack.control.set_faults({"kind": "slow_answer", "seconds": 5, "endpoint": "any"})
    seen = len(stack.control.journal())
    stack.wait_for_calls(seen + 30)

    os.killpg(worker.pid, signal.SIGTERM)  # as service managers do

    assert_ended_in_order(stack, worker)
    reasons = dict(stack.rows("SELECT reason, count(*) FROM attempt GROUP BY reason"))
    assert reasons["deadline"] >= 20  # each was given its time


@pytest.mark.slow
def test_a_worker_whose_redis_died_says_so_in_json_and_ends_in_time(stack):
    worker = busy_worker(stack)
    stack.valkey.kill()
    until(lambda: complaints(worker), seconds=15, why="a complaint")

    worker.terminate()

    assert_ended_in_order(stack, worker)
    assert all({"event", "level", "ts"} <= line.keys() for line in worker.log_lines())
    assert worker.stdout == ""
    assert stack.simulator.api_key not in worker.log.read_text()


@pytest.mark.slow
def test_a_term_ends_in_time_although_redis_is_frozen(stack):
    worker = busy_worker(stack)
    stack.valkey.freeze()

    worker.terminate()

    assert_ended_in_order(stack, worker)


@pytest.mark.fault("F15")
@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "frozen"])
def test_a_term_ends_in_time_while_the_steward_drains_by_itself(stack, how):
    if how == "gone":
        stack.valkey.kill()
    else:
        stack.valkey.freeze()
    worker = busy_worker(stack)

    worker.terminate()

    assert_ended_in_order(stack, worker)
    assert all_answered(stack)


def test_the_supervisors_death_alone_ends_everything_it_started(stack):
    worker = busy_worker(stack)
    assert len(worker.members()) >= 4  # supervisor, Celery, its child, steward

    os.kill(worker.pid, signal.SIGKILL)
    worker.process.wait()

    until(
        lambda: not worker.members(), seconds=DEADLINE_S + GRACE_S + 2, why="no orphan to be left"
    )
    stack.assert_nothing_in_doubt()


def kill_and_await(worker, part):
    """Kill a part, and wait until it and its children are gone and as many are there again."""
    before = worker.members()
    victim = part()
    gone = {victim, *worker.children(victim)}
    os.kill(victim, signal.SIGKILL)
    until(lambda: not gone & set(worker.members()), seconds=3, why="no orphan to be left")
    until(
        lambda: len(worker.members()) >= len(before),
        seconds=15,
        why=f"the {part.__name__} to be started again",
    )


@pytest.mark.fault("F5")
@pytest.mark.slow
def test_killed_parts_are_replaced_without_orphans_and_the_work_goes_on(stack):
    worker = busy_worker(stack)

    def child():
        return worker.children(worker.part("worker.celery_main"))[0]

    def steward():
        return worker.part("expunge.health.steward_main")

    def celery():
        return worker.part("worker.celery_main")

    for part in (child, steward, celery):
        kill_and_await(worker, part)
        seen = len(stack.control.journal())
        stack.wait_for_calls(seen + 30)
    assert worker.process.poll() is None
    stack.assert_within_rate()


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"EXPUNGE_KEYS_DIR": "/nowhere/keys"}, 2, "expunge keys init"),
        ({"MEMOS_API_KEY": ""}, 2, "MEMOS_API_KEY"),
        ({"EXPUNGE_LEDGER_URL": "sqlite:////nowhere/ledger.db"}, 8, "EXPUNGE_LEDGER_URL"),
        ({"EXPUNGE_LEASE_SECONDS": "6"}, 2, "EXPUNGE_LEASE_SECONDS"),
    ],
    ids=["no keys", "no API key", "no ledger", "contradiction"],
)
def test_a_worker_that_cannot_work_says_why_and_does_not_start(stack, changed, code, said):
    done = subprocess.run(
        [sys.executable, "-m", "expunge", "worker"],
        env=stack.environment(**changed),
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 5


def test_a_worker_does_not_start_on_a_ledger_that_was_not_migrated(stack, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "expunge", "worker"],
        env=stack.environment(EXPUNGE_LEDGER_URL=f"sqlite:///{tmp_path / 'empty.db'}"),
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )

    assert done.returncode == 8
    assert "expunge db upgrade" in done.stderr
    assert "Traceback" not in done.stderr
