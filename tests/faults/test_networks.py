"""Networks that lose, break and block: whole workers behind proxies that do so."""

import itertools
import json
import os
import signal
import time
from contextlib import contextmanager, suppress

import pytest

from tests.support.draining import drained_by, processes
from tests.support.fault_proxy import Mode
from tests.support.stack import Stack

RATE = 50.0
LEASE_S = 6.5
DEADLINE_S = 1.0
SLOW_S = 60.0  # a busy machine takes its time to start a worker
pytestmark = pytest.mark.timeout(300)
# Longer than a call's deadline, its retries and the first rests of the breaker.
PARTITION_S = 8.0


@contextmanager
def behind(tmp_path, url, *what):
    with Stack(tmp_path, url, rate=RATE, latency_ms=20, proxied=what) as running:
        yield running


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def memos_apart(tmp_path, sqlite_url):
    """A stack whose workers reach MemOS through `proxies["memos"]`."""
    with behind(tmp_path, sqlite_url, "memos") as running:
        yield running


def order(stack, *, memories=600, chunk_size=2):
    ids = stack.seed(users=2, memories=memories // 2, seed=21).memory_ids
    stack.submit(ids, chunk_size=chunk_size, verify="none")
    return ids


def calls(stack):
    return len(stack.control.journal())


def healed(stack, fault_report, since):
    """Wait for the end; the oracle judges everything."""
    verdict = stack.verdict(seconds=120)
    fault_report(verdict, heals_s=time.monotonic() - since)
    verdict.assert_clean()
    return verdict


@pytest.mark.slow
@pytest.mark.fault("F76")
@pytest.mark.parametrize("mode", [Mode.BLACK_HOLE, Mode.REFUSE])
def test_a_way_to_memos_that_is_cut_heals_by_itself(memos_apart, fault_report, mode):
    stack = memos_apart
    proxy = stack.proxies["memos"]
    stack.start_worker()
    order(stack)
    stack.wait_for_calls(60, seconds=SLOW_S)

    proxy.set(mode)
    time.sleep(PARTITION_S)
    seen = calls(stack)
    proxy.clear()
    proxy.reset_all()
    since = time.monotonic()

    stack.wait_for_calls(seen + 30, seconds=SLOW_S)
    healed(stack, fault_report, since)
    # In the dark: what was claimed before the first deadline, and then one call at a time.
    outcomes = dict(stack.rows("SELECT outcome, count(*) FROM attempt GROUP BY outcome"))
    in_vain = outcomes.get("unknown", 0) + outcomes.get("not_applied", 0)
    assert in_vain <= RATE * (DEADLINE_S + 1) + 2 * PARTITION_S
    assert stack.scalar("SELECT count(*) FROM chunk WHERE state = 'dead'") == 0


@pytest.mark.slow
@pytest.mark.fault("F79")
def test_answers_that_get_lost_for_a_while_leave_no_call_believed(memos_apart, fault_report):
    stack = memos_apart
    proxy = stack.proxies["memos"]
    stack.start_worker()
    order(stack)
    stack.wait_for_calls(60, seconds=SLOW_S)

    seen = calls(stack)
    proxy.set(Mode.BLACK_HOLE, direction="down")
    time.sleep(PARTITION_S)
    arrived = calls(stack) - seen
    proxy.clear()
    proxy.reset_all()
    since = time.monotonic()

    healed(stack, fault_report, since)
    assert arrived > 5  # they did arrive, and were carried out
    (view,) = stack.views()
    assert view.counts.already_absent > 0  # gone when asked again: by whom is not claimed
    unknown = stack.scalar("SELECT count(*) FROM attempt WHERE outcome = 'unknown'")
    assert 0 < unknown <= arrived + 10


@pytest.mark.slow
@pytest.mark.fault("F80")
def test_resets_of_one_call_in_twenty_leave_four_fifths_of_the_throughput(
    memos_apart, fault_report
):
    stack = memos_apart
    proxy = stack.proxies["memos"]
    order(stack, memories=2_400)
    with processes(stack) as several, drained_by(stack, several):
        stack.wait_for_calls(20, seconds=SLOW_S)
        for step in range(60):  # each strikes once: of 1,200 calls one in twenty
            mode = Mode.SWALLOW if step % 2 else Mode.RESET
            proxy.arm(mode, direction="up", pattern=b"delete/memory", skip=20 * step, count=1)
        before, started = calls(stack), time.monotonic()
        stack.wait_for_calls(before + 500, seconds=120)
        took_s = time.monotonic() - started
        struck = sum(fault.struck for fault in proxy._faults)
        proxy.clear()
        stack.wait_for_end(seconds=120)

    verdict = stack.verdict()
    fault_report(verdict)
    verdict.assert_clean()
    assert struck >= 15
    assert 500 / took_s >= 0.8 * RATE * 0.95


@pytest.mark.slow
@pytest.mark.fault("F77")
def test_a_way_to_redis_that_is_cut_costs_no_call_and_heals(tmp_path, sqlite_url, fault_report):
    with behind(tmp_path, sqlite_url, "redis") as stack:
        stack.start_worker()
        order(stack, memories=2_400)
        stack.wait_for_calls(60, seconds=SLOW_S)

        stack.proxies["redis"].set(Mode.BLACK_HOLE)
        seen = calls(stack)
        # The drain under way ends after its time; then the steward finds that nobody claims.
        stack.wait_for_calls(seen + 600, seconds=120)
        stack.proxies["redis"].clear()
        stack.proxies["redis"].reset_all()
        since = time.monotonic()

        healed(stack, fault_report, since)
        worker = stack.workers[0]
        assert worker.process.poll() is None
        started = [line for line in worker.log_lines() if line["event"] == "part_ended"]
        assert len(started) <= 3, started  # no crash loop


@pytest.mark.slow
@pytest.mark.fault("F78")
def test_a_way_to_the_ledger_that_is_cut_during_calls_lets_no_two_overlap(
    tmp_path, postgres_url, fault_report
):
    """Outcomes cannot be written; another worker takes over only when the leases have lapsed."""
    with behind(tmp_path, postgres_url, "ledger") as stack:
        stack.start_worker()
        order(stack)
        stack.wait_for_calls(60, seconds=SLOW_S)

        stack.control.set_settings(latency_s=0.5)  # so that calls are surely under way
        time.sleep(1)
        stack.proxies["ledger"].set(Mode.BLACK_HOLE)
        cut_s = time.monotonic()
        leased = {row[0] for row in stack.rows("SELECT id FROM chunk WHERE state = 'leased'")}
        # This one talks to the ledger directly.
        url = stack.ledger_url
        stack.start_worker(EXPUNGE_LEDGER_URL=url)
        time.sleep(LEASE_S + 2)
        stack.control.set_settings(latency_s=0.02)
        stack.proxies["ledger"].clear()
        stack.proxies["ledger"].reset_all()
        since = time.monotonic()

        assert leased
        stack.kills += 1  # what was under way at the cut may be called a second time
        healed(stack, fault_report, since)
        assert_no_overlap(stack)
        early = [
            call
            for call in stack.control.journal()
            if cut_s + DEADLINE_S + 0.5 < call.at_s < cut_s + LEASE_S - 1
            and call.ids
            and set(call.ids) <= ids_of(stack, leased)
        ]
        assert early == []


def ids_of(stack, chunks):
    rows = stack.rows("SELECT id, ids FROM chunk")
    return {one for chunk, ids in rows if chunk in chunks and ids for one in json.loads(ids)}


def assert_no_overlap(stack):
    """No two calls for one chunk were under way at one moment."""
    spans: dict[frozenset[str], list[float]] = {}
    for call in stack.control.journal():
        if call.endpoint == "delete" and call.ids:
            spans.setdefault(frozenset(call.ids), []).append(call.at_s)
    assert spans
    for times in spans.values():
        assert all(late - early > 0.5 for early, late in itertools.pairwise(times))


@pytest.mark.slow
@pytest.mark.fault("F85")
def test_workers_that_were_suspended_longer_than_their_leases_make_no_burst(
    tmp_path, ledger_url, fault_report
):
    with behind(tmp_path, ledger_url) as stack:
        workers = [stack.start_worker() for _ in range(2)]
        order(stack, memories=1_200)
        stack.wait_for_calls(80, seconds=SLOW_S)

        members = [pid for worker in workers for pid in worker.members()]
        for pid in members:
            signal_(pid, signal.SIGSTOP)
        time.sleep(LEASE_S + 1)
        seen = calls(stack)
        woken_s = time.monotonic()
        for pid in members:
            signal_(pid, signal.SIGCONT)

        stack.wait_for_calls(seen + 100, seconds=SLOW_S)
        stack.kills += len(members)
        verdict = healed(stack, fault_report, woken_s)
        assert verdict.excess == 0
        first = [c.at_s for c in stack.control.journal(after=seen) if c.at_s < woken_s + 1.0]
        assert len(first) <= RATE


def signal_(pid, number):
    with suppress(ProcessLookupError):
        os.kill(pid, number)
