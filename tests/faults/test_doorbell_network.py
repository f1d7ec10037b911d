"""The way to Redis breaks in the worst moment, or silently: nothing waits for it."""

import time

import pytest

from tests.support.bells import (
    LONG_S,
    celery,
    drained_by,
    events,
    order,
    ring_now,
    run_to_the_end,
    settle,
    wait_for_drains,
    wait_for_quiet,
)
from tests.support.fault_proxy import Mode
from tests.support.stack import Stack, until

pytestmark = pytest.mark.slow

RATE = 60
HEALS_S = 15


@pytest.fixture
def stack(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Stack(tmp_path, url, rate=RATE, proxied=["redis"]) as running:
        yield running


def seconds_after_a_lost_ring(stack, seed):
    """Order something whose ring gets lost; gives the seconds until it is done."""
    lost = stack.proxies["redis"].arm(
        Mode.SWALLOW, direction="down", pattern=b"expunge.drain", count=1
    )
    order(stack, seed=seed, chunks=20)
    ring_now(stack)
    until(lambda: lost.struck, seconds=LONG_S, why="the ring to get lost")
    began = time.monotonic()
    stack.wait_for_end(seconds=HEALS_S)
    return time.monotonic() - began


@pytest.mark.fault("F21")
def test_a_ring_whose_delivery_is_lost_with_its_connection_is_rung_again(stack, fault_report):
    worker = stack.start_worker()
    run_to_the_end(stack, seed=1)
    before = celery(worker)
    heals = [seconds_after_a_lost_ring(stack, seed) for seed in range(2, 5)]
    settle(stack, fault_report, heals_s=max(heals))
    assert celery(worker) == before
    assert not events(worker, "part_ended")


@pytest.mark.fault("F22")
def test_a_connection_on_which_nothing_comes_any_more_holds_no_work_up(stack, fault_report):
    worker = stack.start_worker()
    run_to_the_end(stack, seed=1)
    before = celery(worker)
    wait_for_quiet(stack)
    stack.proxies["redis"].set(Mode.BLACK_HOLE)
    order(stack, seed=2, chunks=RATE * 24)
    began = time.monotonic()
    wait_for_drains(stack, "steward", more=1, seconds=HEALS_S)
    waited_s = time.monotonic() - began

    # New connections work again; the one that Celery waits on stays as it is, and says nothing.
    stack.proxies["redis"].clear()
    drained = drained_by(stack, "drain")
    began = time.monotonic()
    until(
        lambda: drained_by(stack, "drain") > drained,
        seconds=HEALS_S,
        why="Celery's children to drain again",
    )
    heals_s = time.monotonic() - began

    settle(stack, fault_report, heals_s=max(waited_s, heals_s))
    assert celery(worker) == before
    assert not events(worker, "part_ended")
