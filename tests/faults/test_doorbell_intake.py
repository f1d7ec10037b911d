"""Handing in waits for no Redis that is down or frozen, and leaves next to nothing in one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery

from ledger.doorbell import BELL_KEY, MOST_WAITING, QUEUE, TASK, celery_settings, ring
from ledger.states import Kind
from producer import Producer, SmallRequest
from producer.bell import LONGEST_WAIT_S, DoorBell
from tests.support.homes import make_home

# What the machine may take for a submit by itself, in the middle of its samples.
OWN_S = 0.25
A_MILLION = 1_000_000
SAMPLES = 40


def small(number):
    return SmallRequest(kind=Kind.MEMORIES, memory_ids=[f"m-{number}"])


WAYS = {
    "delete_memories": lambda producer, n: producer.delete_memories([f"id-{n}"]),
    "purge_user": lambda producer, n: producer.purge_user(f"user-{n}"),
    "purge_agent": lambda producer, n: producer.purge_agent(f"agent-{n}"),
    "hand_in_many": lambda producer, n: producer.hand_in_many(
        [small(f"{n}-{i}") for i in range(9)]
    ),
}


@pytest.mark.fault("F14")
@pytest.mark.parametrize("how", ["gone", "frozen"])
@pytest.mark.parametrize("way", WAYS)
def test_no_way_in_waits_for_a_redis_that_does_not_answer(make_valkey, tmp_path, way, how):
    server = make_valkey()
    with Producer(make_home(tmp_path, redis_url=server.url)) as producer:
        producer._bell._ready.wait(30)  # the imports of this machine are not Redis's fault
        if how == "gone":
            server.kill()
        else:
            server.freeze()
        took = []
        for number in range(SAMPLES):
            began = time.monotonic()
            WAYS[way](producer, number)
            took.append(time.monotonic() - began)
        closing = time.monotonic()
    closed_s = time.monotonic() - closing

    # One in forty may meet a busy machine, and a wait for Redis would be in all of them.
    assert sorted(took)[-2] < OWN_S
    assert closed_s < 2 * LONGEST_WAIT_S


@pytest.mark.slow
@pytest.mark.fault("F14")
def test_a_million_rings_leave_a_handful_of_messages(valkey, capsys):
    with valkey.client() as client:
        before = client.info("memory")["used_memory"]
        bells = [DoorBell(valkey.url) for _ in range(4)]
        began = time.monotonic()

        def many(bell):
            for _ in range(A_MILLION // len(bells)):
                bell.ring()

        with ThreadPoolExecutor(len(bells)) as threads:
            list(threads.map(many, bells))
        took = time.monotonic() - began
        for bell in bells:
            bell.close()
        waiting = client.llen(QUEUE)
        grown = client.info("memory")["used_memory"] - before

    with capsys.disabled():
        print(f"\n{A_MILLION:,} rings of 4 bells in {took:.1f} s: {waiting} messages, {grown:,} B")  # noqa: T201
    assert 1 <= waiting <= MOST_WAITING
    assert grown < 2_000_000


@pytest.mark.fault("F14")
def test_many_submits_leave_a_handful_of_messages(valkey, tmp_path):
    with Producer(make_home(tmp_path, redis_url=valkey.url)) as producer:
        for first in range(0, 5_000, 100):
            producer.hand_in_many([small(number) for number in range(first, first + 100)])
    with valkey.client() as client:
        assert 1 <= client.llen(QUEUE) <= MOST_WAITING
        names = {name for name in client.keys("*") if not name.startswith("_kombu.binding")}
        assert names <= {QUEUE, BELL_KEY}


def test_producers_that_ring_at_one_moment_exceed_the_bound_by_one_each_at_most(valkey):
    """Each looks how many wait before any of them publishes, and the bell falls silent between."""
    producers = 8
    app = Celery("many", set_as_current=False)
    app.conf.update(celery_settings(valkey.url))

    def publish():
        with app.connection_for_write(url=valkey.url) as connection:
            app.send_task(TASK, queue=QUEUE, connection=connection, ignore_result=True)

    together = threading.Barrier(producers)

    class Slow:
        """A client that stands still between the look and the ring."""

        def __init__(self, client):
            self.client = client

        def llen(self, name):
            waiting = self.client.llen(name)
            together.wait(30)
            return waiting

        def set(self, name, value, **options):
            self.client.delete(name)  # as its two seconds do, at the worst moment
            return self.client.set(name, value, **options)

    with valkey.client() as client:
        for _ in range(MOST_WAITING - 1):
            client.lpush(QUEUE, "x")
        with ThreadPoolExecutor(producers) as threads:
            list(threads.map(lambda _: ring(Slow(client), publish), range(producers)))
        assert MOST_WAITING <= client.llen(QUEUE) <= MOST_WAITING - 1 + producers
        with ThreadPoolExecutor(producers) as threads:
            assert not any(threads.map(lambda _: ring(Slow(client), publish), range(producers)))
