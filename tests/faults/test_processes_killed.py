"""A killed process: whatever it was doing, its work is done within the lease and two seconds."""

import os
import signal
import time

import pytest

from tests.support.fault_proxy import Mode
from tests.support.stack import Stack, until

LEASE_S = 6.5
HEALED_S = LEASE_S + 2.0
CHUNK = 10
DELETE = b"/delete/memory"


@pytest.fixture
def stack(tmp_path, ledger_url):
    with Stack(tmp_path, ledger_url, rate=100, latency_ms=5, proxied=["memos"]) as running:
        yield running


def order(stack, *, memories=200):
    """Order twenty chunks; gives the ids of the first, which leaves first."""
    seeded = stack.seed(users=1, memories=memories, seed=7)
    stack.submit(seeded.memory_ids, chunk_size=CHUNK, subject=seeded.users[0])
    return seeded.memory_ids[:CHUNK]


def pid_of(name):
    """A process of ours is named by role, pid and chance."""
    return int(name.split("-")[1])


def holder(stack):
    """Wait for a call under way; gives the worker that makes it."""
    open_calls = "SELECT worker FROM attempt WHERE outcome IS NULL"
    name = until(lambda: stack.scalar(open_calls), seconds=20, why="a call under way")
    return next(worker for worker in stack.workers if pid_of(name) in worker.members())


def calls_of(stack, ids):
    """When the calls arrived that named these ids, by the monotonic clock."""
    calls = stack.control.journal()
    return [one.at_s for one in calls if one.endpoint == "delete" and set(ids) & set(one.ids)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("direction", "before"),
    [
        pytest.param("up", "SIGKILL", marks=pytest.mark.fault("F1"), id="not applied"),
        pytest.param("down", "SIGKILL", marks=pytest.mark.fault("F2"), id="applied"),
        pytest.param("up", "SIGTERM", marks=pytest.mark.fault("F7"), id="grace too short"),
    ],
)
def test_calls_in_flight_of_a_killed_worker_are_made_again_by_another(
    stack, direction, before, fault_report
):
    proxy = stack.proxies["memos"]
    stack.start_worker()
    stack.start_worker()
    held = proxy.arm(Mode.HOLD, direction=direction, pattern=DELETE if direction == "up" else b"")
    first = order(stack)
    victim = holder(stack)
    until(lambda: held.struck, seconds=10, why="a call in the network")
    if before == "SIGTERM":
        victim.terminate()
        time.sleep(0.2)  # what a hasty operator gives it

    victim.kill_group()
    killed_s = time.monotonic()
    proxy.reset_all()
    proxy.clear()
    seen = len(calls_of(stack, first))
    until(lambda: len(calls_of(stack, first)) > seen, seconds=20, why="the call to be made again")
    heals_s = calls_of(stack, first)[seen] - killed_s
    verdict = stack.verdict()

    fault_report(verdict, heals_s=heals_s)
    verdict.assert_clean()
    assert seen == (direction == "down")  # it was as the name says
    assert heals_s <= HEALED_S
    (view,) = stack.views()
    assert (view.state, view.certainty) == ("complete", "verified")
    reasons = stack.rows("SELECT DISTINCT outcome, reason FROM attempt WHERE outcome = 'unknown'")
    assert reasons == [("unknown", "lease_lapsed")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "again"),
    [
        pytest.param("call.after_answer@1", True, marks=pytest.mark.fault("F3")),
        pytest.param("record.before_commit@1", True, marks=pytest.mark.fault("F3")),
        pytest.param("record.after_commit@1", False, marks=pytest.mark.fault("F4")),
    ],
)
def test_a_child_killed_around_its_commit_repeats_what_was_not_recorded_and_nothing_else(
    stack, point, again, fault_report
):
    stack.start_worker(EXPUNGE_CRASH_POINTS=f"{point}=kill")
    first = order(stack)
    stack.wait_for_crash(point)
    killed_s = time.monotonic() - (time.time() - stack.crash_mark(point).stat().st_mtime)
    recorded = recorded_at(stack, first)
    if again:
        until(lambda: len(calls_of(stack, first)) > 1, seconds=20, why="the call again")
        heals_s = calls_of(stack, first)[1] - killed_s
    else:
        after = len(stack.control.journal())
        stack.wait_for_calls(after + 1)
        heals_s = stack.control.journal()[after].at_s - killed_s
    verdict = stack.verdict()

    fault_report(verdict, heals_s=heals_s)
    verdict.assert_clean()
    assert heals_s <= HEALED_S
    assert recorded is not again
    assert len(calls_of(stack, first)) == 1 + again
    assert stack.views()[0].certainty == "verified"


def recorded_at(stack, ids):
    """Whether the chunk of these ids has its answer on record."""
    (chunk,) = [row for row in stack.rows("SELECT ids, state FROM chunk") if ids[0] in row[0]]
    return chunk[1] == "delivered"


@pytest.mark.fault("F5")
@pytest.mark.slow
def test_a_killed_child_is_replaced_at_once_and_its_calls_wait_for_their_lease(stack, fault_report):
    proxy = stack.proxies["memos"]
    worker = stack.start_worker()
    held = proxy.arm(Mode.HOLD, direction="up", pattern=DELETE)
    first = order(stack, memories=1_000)
    until(lambda: held.struck, seconds=20, why="a call in the network")
    (child,) = worker.children(worker.part("worker.celery_main"))

    os.kill(child, signal.SIGKILL)
    killed_s = time.monotonic()
    stack.kills += 1
    proxy.reset_all()
    proxy.clear()
    until(lambda: calls_of(stack, first), seconds=20, why="the call to be made again")
    heals_s = calls_of(stack, first)[0] - killed_s
    verdict = stack.verdict()

    fault_report(verdict, heals_s=heals_s)
    verdict.assert_clean()
    assert heals_s <= HEALED_S
    # Others went on meanwhile, and no call overlapped with the one that was lost.
    others = [one.at_s for one in stack.control.journal() if one.at_s < calls_of(stack, first)[0]]
    assert len(others) > 10
    assert overlaps(stack) == 0
    assert worker.process.poll() is None


def overlaps(stack):
    """Pairs of calls for one chunk of which the later was claimed under the earlier one's lease."""
    pairs = """SELECT count(*) FROM attempt AS a JOIN attempt AS b
        ON a.chunk_id = b.chunk_id AND a.fence < b.fence
        WHERE b.claimed_at < a.claimed_at + 6500000 AND a.reason = 'lease_lapsed'"""
    return stack.scalar(pairs)
