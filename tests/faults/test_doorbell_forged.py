"""Whoever can write to Redis can ring, and nothing else: no crash, no effect, no message kept."""

import json

import pytest
from celery import Celery

from ledger.doorbell import QUEUE
from tests.support.bells import LONG_S, celery, events, order, run_to_the_end, settle, warnings_of
from tests.support.forged import LIVELY, POISON
from tests.support.stack import Stack, until

pytestmark = pytest.mark.slow


@pytest.fixture
def stack(tmp_path):
    with Stack(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}", rate=100) as running:
        yield running


@pytest.fixture
def worker(stack):
    one = stack.start_worker()
    run_to_the_end(stack, seed=1)
    return one


def push(stack, *messages):
    with stack.valkey.client() as client:
        for message in messages:
            client.lpush(QUEUE, message)


def swallowed(stack):
    """The list is empty, and nothing of it is kept elsewhere."""
    with stack.valkey.client() as client:
        return client.llen(QUEUE) == 0 and not client.exists("unacked", "unacked_index")


@pytest.mark.fault("F28")
def test_whatever_stands_in_the_list_the_worker_lives_and_the_next_ring_is_heard(
    stack, worker, fault_report
):
    before = celery(worker)
    calls = len(stack.control.journal())

    push(stack, *POISON.values(), *list(POISON.values())[:3] * 20)
    until(lambda: swallowed(stack), seconds=LONG_S, why="all of it to be gone")

    assert len(stack.control.journal()) == calls
    run_to_the_end(stack, seed=2)
    assert celery(worker) == before  # nothing was started anew
    told = events(worker, "doorbell_rejected")
    assert {line["reason"] for line in told} == {
        *("too_long", "not_json", "not_a_message", "unknown_task", "bad_body", "arguments"),
    }
    # The first of each kind, and one a minute afterwards.
    assert len(told) <= 12
    assert "someone" not in worker.log.read_text()
    assert not events(worker, "part_ended")
    settle(stack, fault_report)


@pytest.mark.fault("F28")
def test_what_else_a_ring_says_has_no_effect(stack, worker, fault_report):
    before = celery(worker)

    for name, message in LIVELY.items():
        push(stack, message)
        until(lambda: swallowed(stack), seconds=LONG_S, why=f"{name} to be taken")
    # A time limit of a second would end a drain that takes two and more.
    order(stack, seed=3, chunks=250)
    push(stack, LIVELY["a time limit"])
    stack.wait_for_end(seconds=LONG_S)
    run_to_the_end(stack, seed=4)

    assert celery(worker) == before
    until(lambda: swallowed(stack), seconds=LONG_S, why="the last ring to be taken")
    assert warnings_of(worker) == []
    assert not events(worker, "worker_ended")
    settle(stack, fault_report)


@pytest.mark.fault("F28")
def test_a_message_that_an_older_worker_left_unacknowledged_is_never_put_back(stack, fault_report):
    """A stranger may put one there too; a bad one would come again with each worker."""
    message = json.loads(POISON["an object for a body"])
    with stack.valkey.client() as client:
        client.hset("unacked", "old", json.dumps([message, "", QUEUE]))
        client.zadd("unacked_index", {"old": 1.0})
    worker = stack.start_worker()
    run_to_the_end(stack, seed=5)
    with stack.valkey.client() as client:
        assert client.hlen("unacked") == 1
    assert warnings_of(worker) == []
    settle(stack, fault_report)


@pytest.mark.fault("F29")
def test_nobody_listens_to_commands_on_the_control_channel(stack, worker, fault_report):
    before = celery(worker)
    with Celery("stranger", broker=stack.valkey.url, set_as_current=False) as stranger:
        for command, arguments in {
            "shutdown": {},
            "cancel_consumer": {"queue": QUEUE},
            "rate_limit": {"task_name": "expunge.drain", "rate_limit": "1/h"},
            "pool_restart": {},
            "pool_shrink": {"n": 1},
            "revoke": {"task_id": "1", "terminate": True},
        }.items():
            stranger.control.broadcast(command, arguments=arguments)
    with stack.valkey.client() as client:
        assert client.pubsub_channels("*") == []

    run_to_the_end(stack, seed=6)
    run_to_the_end(stack, seed=7)
    assert celery(worker) == before
    assert warnings_of(worker) == []
    settle(stack, fault_report)
