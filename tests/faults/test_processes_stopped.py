"""Processes that stop and come back, that are killed again and again, or that a call kills."""

import os
import random
import signal
import time

import pytest

from tests.support.fault_proxy import Mode
from tests.support.stack import Stack, until

LEASE_S = 6.5
URL = "sqlite:///{}/ledger.db"


@pytest.mark.fault("F8")
@pytest.mark.slow
def test_what_a_stopped_process_says_after_its_lease_is_refused_and_recorded(
    tmp_path, ledger_url, fault_report
):
    point = "call.after_answer@1"
    settings = {"EXPUNGE_CRASH_POINTS": f"{point}=stop"}
    with Stack(tmp_path, ledger_url, rate=100, latency_ms=5, settings=settings) as stack:
        stack.start_worker()
        seeded = stack.seed(users=1, memories=200, seed=3)
        stack.submit(seeded.memory_ids, chunk_size=10, subject=seeded.users[0])
        zombie = stack.wait_for_crash(point)
        stopped_s = time.monotonic()
        held = stack.scalar("SELECT count(*) FROM attempt WHERE outcome IS NULL")

        # The steward does the work meanwhile, under leases of its own.
        stack.wait_for_end(seconds=60)
        time.sleep(max(0.0, stopped_s + 2 * LEASE_S - time.monotonic()))
        ended = stack.views()
        calls = len(stack.control.journal())
        os.kill(zombie, signal.SIGCONT)
        late = "SELECT count(*) FROM attempt WHERE stale = 1"
        until(lambda: stack.scalar(late) == held, seconds=20, why="the late outcomes")
        verdict = stack.verdict()
        after = stack.views()

    fault_report(verdict)
    verdict.assert_clean()
    assert held > 0
    assert after == ended
    assert verdict.calls == calls  # what it had not sent yet stayed unsent


@pytest.mark.fault("F9")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_storm_of_kills_and_restarts_loses_and_doubles_nothing(
    tmp_path, ledger_url, fault_report
):
    chance = random.Random("storm")
    with Stack(tmp_path, ledger_url, rate=100, latency_ms=30) as stack:
        stack.start_worker()
        stack.start_worker()
        seeded = stack.seed(users=2, memories=2_000, seed=9)
        ordered = seeded.by_user[seeded.users[0]]
        for first in range(0, len(ordered), 200):
            part = ordered[first : first + 200]
            stack.submit(part, chunk_size=1, subject=seeded.users[0])
        for kill in range(1, 11):
            stack.wait_for_calls(kill * 150, seconds=40)
            living = [worker for worker in stack.workers if worker.process.poll() is None]
            chance.choice(living).kill_group()
            stack.start_worker()
        verdict = stack.verdict(seconds=120)

    fault_report(verdict)
    verdict.assert_clean()
    assert verdict.doubled <= verdict.most_doubled


@pytest.mark.fault("F11")
@pytest.mark.slow
def test_a_call_that_kills_its_process_each_time_is_given_up_and_the_others_are_done(
    tmp_path, fault_report
):
    """As when the answer is too much for the memory: the kernel kills whoever reads it."""
    settings = {"EXPUNGE_MAX_ATTEMPTS": "2"}
    with Stack(
        tmp_path, URL.format(tmp_path), rate=100, latency_ms=5, settings=settings, proxied=["memos"]
    ) as stack:
        seeded = stack.seed(users=1, memories=300, seed=5)
        hostile, others = seeded.memory_ids[:10], seeded.memory_ids[10:]
        proxy = stack.proxies["memos"]
        held = proxy.arm(Mode.BLACK_HOLE, direction="up", pattern=hostile[0].encode())
        worker = stack.start_worker()
        stack.submit(others, chunk_size=10, verify="none")
        bad = stack.submit(hostile, chunk_size=10, verify="none")
        for time_ in (1, 2):
            until(lambda n=time_: held.struck == n, seconds=30, why="the call")  # type: ignore[misc]
            # What left before it has its answer by now.
            kill_reader(stack, bad)
            stack.kills += 1
        verdict = stack.verdict()
        views = {view.id: view for view in stack.views()}
        restarts = worker.log.read_text().count("part_ended")

    fault_report(verdict)
    verdict.assert_clean()
    assert (views[bad].state, views[bad].counts.unknown) == ("failed", 10)
    assert {view.state.value for view in views.values() if view.id != bad} == {"complete"}
    assert held.struck == 2
    assert restarts <= 3


def kill_reader(stack, request_id):
    """Kill the process that has the call of a request under way, once its other calls are done."""
    open_calls = "SELECT worker, request_id FROM attempt WHERE outcome IS NULL"
    last = [request_id]
    until(
        lambda: [row[1] for row in stack.rows(open_calls)] == last,
        seconds=10,
        why="this call alone to be under way",
    )
    ((name, _),) = stack.rows(open_calls)
    os.kill(int(name.split("-")[1]), signal.SIGKILL)
