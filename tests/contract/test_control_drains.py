"""Cancelling, pausing and waiting in the midst of large requests, with real drains and calls."""

import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from ledger import ReadbackPolicy
from ledger.settings import load_settings
from tests.support.stack import NOTED_LATE_S, Stack, until
from worker.process import Process
from worker.stop import StopFlag

RATE = 200
CHUNKS = 300
POLICY = ReadbackPolicy(settle_s=0.1)
WHO = {"principal": "olga", "reason": "test"}


@pytest.fixture
def stack(tmp_path, ledger_url):
    settings = {"EXPUNGE_SETTLE_SECONDS": "0.1"}
    with Stack(tmp_path, ledger_url, rate=RATE, latency_ms=10, settings=settings) as running:
        yield running


@contextmanager
def draining(stack):
    """Drain and sweep on a thread of its own, as a worker does, until the test is over."""
    over: list[bool] = []
    settings = load_settings(stack.environment())

    def go_on():
        with closing(Process(settings, role="drain", stop=StopFlag())) as process:
            while not over:
                process.drain(budget_s=0.5)
                process.ledger.sweep(max_attempts=8, policy=POLICY)

    thread = Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.append(True)
        thread.join()


def a_large_request(stack, **order):
    seeded = stack.seed(users=1, memories=2 * CHUNKS, seed=6)
    return seeded, stack.submit(seeded.memory_ids, chunk_size=2, verify="sample:20", **order)


def deletions(stack):
    return [call for call in stack.control.journal() if call.endpoint == "delete"]


def test_a_request_cancelled_midway_counts_what_was_sent_and_what_was_not(stack):
    seeded, request_id = a_large_request(stack)
    with draining(stack):
        stack.wait_for_calls(40)
        assert stack.ledger.cancel(request_id, policy=POLICY, **WHO)
        view = until(
            lambda: (one := stack.ledger.status(request_id)).finished_at and one,
            seconds=30,
            why="the cancelled request to end",
        )
    sent = {one for call in deletions(stack) for one in call.ids}
    assert 40 <= len(sent) < 2 * CHUNKS
    counts = view.counts
    assert counts.cancelled == 2 * CHUNKS - len(sent)
    assert counts.verified_absent + counts.acknowledged + counts.already_absent == len(sent)
    assert (counts.unknown, counts.refused, counts.still_present) == (0, 0, 0)
    assert (view.cancelling, view.result.value) == (True, "partial")
    assert stack.control.remaining().total == len(seeded.memory_ids) - len(sent)
    stack.assert_within_rate()


def test_nothing_of_a_large_request_departs_before_its_time_and_all_of_it_afterwards(stack):
    moment = datetime.now(UTC) + timedelta(seconds=2)
    seeded, request_id = a_large_request(stack, not_before=moment)
    _, cancelled = a_large_request(stack, not_before=moment)
    with draining(stack):
        assert stack.ledger.cancel(cancelled, policy=POLICY, **WHO)
        while datetime.now(UTC) < moment:
            # Looked at first: the time may be over in between.
            calls = stack.control.journal()
            assert not calls or datetime.now(UTC) >= moment
            time.sleep(0.02)
        stack.wait_for_end()
    assert stack.ledger.status(request_id).state.value == "complete"
    assert {one for call in deletions(stack) for one in call.ids} == set(seeded.memory_ids)
    view = stack.ledger.status(cancelled)
    assert (view.state.value, view.counts.cancelled, view.attempts) == ("cancelled", 2 * CHUNKS, 0)


@pytest.mark.parametrize("scope", ["project", "account"])
def test_a_persons_pause_midway_stops_all_calls_and_resuming_carries_out_the_rest(stack, scope):
    seeded, request_id = a_large_request(stack)
    with draining(stack):
        stack.wait_for_calls(40)
        assert getattr(stack.ledger, f"pause_{scope}")("default", **WHO)
        time.sleep(0.1 + NOTED_LATE_S)
        stopped = len(stack.control.journal())
        time.sleep(1.0)
        # Whatever comes late was noted late, on a busy machine: it is no fresh claim.
        assert len(stack.control.journal()) - stopped <= 2
        assert 0 < stack.ledger.status(request_id).counts.pending < 2 * CHUNKS
        assert getattr(stack.ledger, f"resume_{scope}")("default", **WHO)
        stack.wait_for_end()
    assert stack.ledger.status(request_id).state.value == "complete"
    assert {one for call in deletions(stack) for one in call.ids} == set(seeded.memory_ids)
    stack.assert_within_rate()
