"""Killed processes that others have their ledger kept by: it costs a second."""

import os
import signal
import time

import pytest

from tests.support.stack import Stack, group_members, until

RATE = 400


@pytest.fixture
def stack(tmp_path, ledger_url):
    with Stack(tmp_path, ledger_url, rate=RATE, latency_ms=5) as running:
        yield running


def order(stack, *, chunks):
    seeded = stack.seed(users=1, memories=chunks, seed=7)
    return stack.submit(seeded.memory_ids, chunk_size=1, verify="sample:20")


def running(worker, module):
    return [pid for pid, args in group_members(worker.pid).items() if module in args]


@pytest.mark.slow
@pytest.mark.fault("F5")
def test_clerks_that_are_killed_again_and_again_lose_nothing_and_call_nothing_twice(
    stack, fault_report
):
    worker = stack.start_worker()
    order(stack, chunks=RATE * 10)
    for kill in range(4):
        stack.wait_for_calls(RATE * (kill + 1))
        (clerk, *_) = until(lambda: running(worker, "clerk_main"), seconds=20, why="a clerk")
        os.kill(clerk, signal.SIGKILL)
        stack.kills += 1
    stack.wait_for_end(seconds=90)
    verdict = stack.verdict()

    fault_report(verdict)
    verdict.assert_clean()
    assert worker.process.poll() is None
    assert any(line["event"] == "clerk_lost" for line in worker.log_lines())


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("claim.before_commit@3", marks=pytest.mark.fault("F3")),
        pytest.param("claim.after_commit@3", marks=pytest.mark.fault("F3")),
        pytest.param("record.before_commit@2", marks=pytest.mark.fault("F3")),
        pytest.param("record.after_commit@2", marks=pytest.mark.fault("F4")),
    ],
)
def test_a_clerk_killed_around_its_commit_has_everything_recorded_once(stack, point, fault_report):
    stack.start_worker(EXPUNGE_CRASH_POINTS=f"{point}=kill")
    order(stack, chunks=RATE * 3)
    stack.wait_for_crash(point)
    killed_s = time.monotonic()
    stack.wait_for_end(seconds=60)
    verdict = stack.verdict()

    fault_report(verdict, heals_s=time.monotonic() - killed_s)
    verdict.assert_clean()
    # Only what was claimed and never told of is called after its lease; the rest once.
    lapsed = stack.scalar("SELECT count(*) FROM attempt WHERE reason = 'lease_lapsed'")
    assert (lapsed > 0) == point.startswith("claim.after")
    assert stack.views()[0].certainty == "sampled"


@pytest.mark.slow
@pytest.mark.fault("F5")
def test_a_large_request_ends_although_whoever_goes_through_it_is_killed(stack, fault_report):
    worker = stack.start_worker()
    order(stack, chunks=RATE)
    # It has just begun to start: that takes longer than seeing it does.
    (spare,) = until(lambda: running(worker, "spare_main"), seconds=60, why="the end")
    os.kill(spare, signal.SIGKILL)
    stack.kills += 1
    stack.wait_for_end(seconds=60)
    verdict = stack.verdict()

    fault_report(verdict)
    verdict.assert_clean()
    assert any(line["event"] == "closer_alone" for line in worker.log_lines())
    assert stack.scalar("SELECT count(*) FROM event WHERE type = 'request.finished'") == 1
