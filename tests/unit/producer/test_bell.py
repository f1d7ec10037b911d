"""The bell rings for each commit, and never holds anybody up."""

import json
import os
import socket
import threading
import time

import pytest

from ledger.doorbell import QUEUE, TASK
from producer import Producer
from producer.bell import Bell, DoorBell
from tests.support.homes import make_home

ENOUGH = 5.0  # seconds that a healthy server never needs


def wait_until(true, within=ENOUGH):
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)


def waiting(valkey):
    with valkey.client() as client:
        return [json.loads(each) for each in client.lrange(QUEUE, 0, -1)]


def test_a_ring_puts_one_message_without_arguments_into_the_queue(valkey):
    bell = DoorBell(valkey.url)
    bell.ring()
    # On a busy machine a ring goes on behind the 250 ms that it may hold anybody up.
    wait_until(lambda: waiting(valkey))
    bell.close()
    [message] = waiting(valkey)
    assert message["headers"]["task"] == TASK
    assert message["headers"]["argsrepr"] == "()"
    assert message["headers"]["kwargsrepr"] == "{}"


def test_many_requests_leave_few_messages(valkey, tmp_path):
    began = time.monotonic()
    with Producer(make_home(tmp_path, redis_url=valkey.url)) as producer:
        for number in range(50):
            producer.purge_user(f"user-{number}")
    # One, another when the worker took it meanwhile, and on a busy machine one each two seconds.
    assert 1 <= len(waiting(valkey)) <= 2 + (time.monotonic() - began) // 2
    assert "user-" not in json.dumps(waiting(valkey))


def test_a_broker_named_in_the_environment_is_not_rung_instead(valkey, monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", "redis://127.0.0.1:1/0")
    bell = DoorBell(valkey.url)
    bell.ring()
    wait_until(lambda: waiting(valkey))
    bell.close()
    assert len(waiting(valkey)) == 1


def test_the_current_celery_app_of_the_program_stays_its_own(valkey):
    from celery import current_app  # noqa: PLC0415

    before = current_app.main
    bell = DoorBell(valkey.url)
    bell.ring()
    bell.close()
    assert current_app.main == before


def test_a_redis_that_is_down_costs_no_request_and_little_time(tmp_path):
    started = None
    with Producer(make_home(tmp_path)) as producer:
        receipt = producer.purge_user("u")
        assert producer.status(receipt.id).state.value == "open"
        producer._bell._ready.wait(ENOUGH)
        started = time.monotonic()
    assert time.monotonic() - started < 3


def test_a_frozen_redis_costs_at_most_the_longest_wait(make_valkey, tmp_path):
    server = make_valkey()
    with Producer(make_home(tmp_path, redis_url=server.url)) as producer:
        producer._bell.start()
        producer._bell._ready.wait(ENOUGH)
        server.freeze()
        started = time.monotonic()
        producer._bell.ring()
        assert time.monotonic() - started < 0.2  # below the longest wait: nothing is waited for
        started = time.monotonic()
    assert time.monotonic() - started < 3
    server.thaw()


def test_a_host_that_swallows_packets_costs_at_most_the_longest_wait():
    """A full backlog: connecting is neither accepted nor refused."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(deaf.getsockname())
        bell = DoorBell(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")
        bell.start()
        bell._ready.wait(ENOUGH)
        bell.ring()
        started = time.monotonic()
        bell.close()
        assert time.monotonic() - started < 3
        for filler in fillers:
            filler.close()


def test_closing_waits_for_a_ring_under_way_but_not_for_ever():
    let_go = threading.Event()
    rung = threading.Event()

    def slow():
        rung.set()
        let_go.wait(ENOUGH)

    bell = Bell(lambda: slow, longest_wait_s=0.05)
    bell.ring()
    assert rung.wait(ENOUGH)
    started = time.monotonic()
    bell.close()
    assert 0.05 <= time.monotonic() - started < 5
    let_go.set()


def test_rings_during_a_ring_become_one_more():
    count = 0
    first_is_in = threading.Event()
    let_go = threading.Event()

    def counting():
        nonlocal count
        count += 1
        first_is_in.set()
        let_go.wait(ENOUGH)

    bell = Bell(lambda: counting)
    bell.ring()
    assert first_is_in.wait(ENOUGH)
    for _ in range(100):
        bell.ring()
    let_go.set()
    wait_until(bell._idle.is_set)
    assert count == 2
    bell.close()


@pytest.mark.parametrize("where", ["made", "rung"])
def test_a_bell_that_breaks_raises_nothing(where):
    def breaks():
        raise RuntimeError

    bell = Bell(breaks if where == "made" else lambda: breaks)
    for _ in range(3):
        bell.ring()
        wait_until(bell._idle.is_set)
    bell.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_rings_by_itself(valkey):
    bell = DoorBell(valkey.url)
    bell.start()
    bell._ready.wait(ENOUGH)
    child = os.fork()
    if child == 0:
        bell.ring()
        bell.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(waiting(valkey)) == 1
    bell.close()
