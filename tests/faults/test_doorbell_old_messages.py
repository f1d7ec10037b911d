"""Doorbells that come twice, late, again, or never: no call is made twice, and none is missing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from kombu.connection import Connection

from ledger.doorbell import QUEUE
from tests.support.bells import LONG_S, order, ring_now, run_to_the_end, settle, warnings_of
from tests.support.forged import ring_with
from tests.support.stack import Stack, until

pytestmark = pytest.mark.slow

RATE = 60
SEED = 20261124


@pytest.fixture
def stack(tmp_path):
    with Stack(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}", rate=RATE) as running:
        yield running


def deletions(stack):
    """How often each id was named in a call that deletes."""
    calls = stack.control.journal()
    return Counter(one for call in calls if call.endpoint == "delete" for one in call.ids)


def assert_each_once(stack, ids):
    """Every chunk was called once, and no two attempts at a chunk overlap, nor are there two."""
    assert deletions(stack) == dict.fromkeys(ids, 1)
    twice = "SELECT count(*) FROM attempt WHERE outcome <> 'unsent' AND chunk_id IS NOT NULL"
    assert stack.scalar(twice) == len(stack.rows("SELECT id FROM chunk"))


@contextmanager
def meanwhile(stack, do):
    """Do something to Redis again and again, in a thread of its own."""
    enough = threading.Event()

    def again():
        with stack.valkey.client() as client:
            while not enough.wait(0.1):
                do(client)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


@pytest.mark.fault("F23", "F24")
def test_rings_that_come_threefold_to_three_workers_make_one_call_a_chunk(stack, fault_report):
    for _ in range(3):
        stack.start_worker(EXPUNGE_PROCESSES="2")

    def thrice(client):
        client.lpush(QUEUE, *[ring_with()] * 3)

    with meanwhile(stack, thrice):
        seeded = order(stack, seed=1, chunks=RATE * 6)
        stack.wait_for_end(seconds=LONG_S)
    assert_each_once(stack, seeded.memory_ids)
    settle(stack, fault_report)

    made = len(stack.control.journal())
    with stack.valkey.client() as client:
        client.lpush(QUEUE, *[ring_with()] * 50)  # of last month, in any order
        until(lambda: client.llen(QUEUE) == 0, seconds=LONG_S, why="all of them to be heard")
    other = run_to_the_end(stack, seed=2)
    assert deletions(stack) == dict.fromkeys([*seeded.memory_ids, *other], 1)
    new = [call for call in stack.control.journal()[made:] if not set(call.ids) & set(other)]
    # Nothing but the read-backs of what was just ordered.
    assert [call for call in new if call.endpoint == "delete"] == []
    assert all(warnings_of(worker) == [] for worker in stack.workers)


@pytest.mark.fault("F25")
def test_half_of_the_rings_getting_lost_costs_no_work(stack, fault_report):
    stack.start_worker()
    chance = random.Random(SEED)

    def drop(client):
        if client.llen(QUEUE) and chance.random() < 0.5:
            client.rpop(QUEUE)

    with meanwhile(stack, drop):
        ids = []
        for seed in range(5):
            seeded = order(stack, seed=10 + seed, chunks=RATE)
            ids += seeded.memory_ids
            stack.wait_for_end(seconds=LONG_S)
    assert_each_once(stack, ids)
    settle(stack, fault_report)


@pytest.mark.fault("F26")
def test_a_strangers_short_visibility_timeout_brings_no_ring_back_during_its_drain(
    stack, fault_report
):
    """There is none to set wrong any more; a stranger's sweep finds nothing to put back."""
    stack.control.set_settings(latency_s=0.4)
    stack.start_worker()
    seeded = order(stack, seed=3, chunks=RATE * 5)
    ring_now(stack)
    stack.wait_for_calls(20, seconds=LONG_S)
    with Connection(
        stack.valkey.url, transport_options={"visibility_timeout": 0, "unacked_restore_throttle": 1}
    ) as stranger:
        channel = stranger.channel()
        before = len(stack.rows("SELECT DISTINCT worker FROM attempt"))

        def sweep(client):
            channel.qos.restore_visible(interval=1)
            assert not client.exists("unacked", "unacked_index")

        with meanwhile(stack, sweep):
            stack.wait_for_end(seconds=LONG_S)
    assert before == 1
    assert_each_once(stack, seeded.memory_ids)
    settle(stack, fault_report)


@pytest.mark.fault("F27")
def test_a_worker_whose_clock_is_two_hours_ahead_takes_nothing_from_another(
    stack, tmp_path, fault_report
):
    """Its wall clock is; the monotonic one, like the host's, is not."""
    ahead = tmp_path / "ahead"
    ahead.mkdir()
    (ahead / "sitecustomize.py").write_text(
        "import time\n"
        "_time, _time_ns = time.time, time.time_ns\n"
        "time.time = lambda: _time() + 7_200\n"
        "time.time_ns = lambda: _time_ns() + 7_200 * 10**9\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env={"PYTHONPATH": str(ahead)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert float(told.stdout) > time.time() + 7_000
    stack.control.set_settings(latency_s=0.4)
    stack.start_worker()
    stack.start_worker(PYTHONPATH=str(ahead))

    with meanwhile(stack, lambda client: client.lpush(QUEUE, ring_with())):
        seeded = order(stack, seed=4, chunks=RATE * 6)
        stack.wait_for_end(seconds=LONG_S)

    # The oracle compares moments of the ledger with those of the simulator, and here two hours lie
    # between them.
    assert_each_once(stack, seeded.memory_ids)
    stack.assert_truth(seeded, ordered=seeded.memory_ids)
    stack.assert_within_rate()
    drained = stack.rows("SELECT DISTINCT worker FROM attempt")
    assert len(drained) >= 2  # both made calls


@pytest.mark.fault("F17", "F18")
@pytest.mark.parametrize("cut", [0, 7], ids=["older copy", "cut by 7 bytes"])
def test_an_older_state_of_redis_brings_old_rings_back_and_no_call(
    stack, tmp_path, cut, fault_report
):
    stack.valkey.options = ["--appendonly", "yes", "--appendfsync", "always"]
    stack.valkey.restart()
    with stack.valkey.client() as client:
        client.lpush(QUEUE, *[ring_with()] * 9)
        client.lpush(QUEUE, ring_with())
    kept = tmp_path / "kept"
    shutil.copytree(stack.valkey.folder / "appendonlydir", kept)
    worker = stack.start_worker()
    first = run_to_the_end(stack, seed=5)
    celery = worker.part("worker.celery_main")

    stack.valkey.kill()
    shutil.rmtree(stack.valkey.folder / "appendonlydir")
    shutil.copytree(kept, stack.valkey.folder / "appendonlydir")
    (last,) = (stack.valkey.folder / "appendonlydir").glob("*.incr.aof")
    os.truncate(last, last.stat().st_size - cut)
    second = order(stack, seed=6, chunks=20)
    os.kill(celery, signal.SIGSTOP)  # so that nobody takes them before they are counted
    stack.valkey.start()
    with stack.valkey.client() as client:
        assert client.llen(QUEUE) >= (9 if cut else 10)
    os.kill(celery, signal.SIGCONT)

    stack.wait_for_end(seconds=LONG_S)
    with stack.valkey.client() as client:
        until(lambda: client.llen(QUEUE) == 0, seconds=LONG_S, why="the old ones to be heard")
    third = run_to_the_end(stack, seed=7)
    assert_each_once(stack, [*first, *second.memory_ids, *third])
    settle(stack, fault_report)
