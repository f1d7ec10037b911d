"""Much work, many workers, changing limits: who waits how long, and how fast calls go."""

import random
import time

import pytest

from memos_api.simulator.process import worst_window
from tests.support.stack import NOTED_LATE_S, Stack, until

LATENCY_MS = 20.0


@pytest.fixture
def make_stack(tmp_path):
    """Makes one stack with this limit; on SQLite, for the load is what is looked at."""
    opened = []

    def make(rate, **options):
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        opened.append(Stack(tmp_path, url, rate=rate, latency_ms=LATENCY_MS, **options).__enter__())
        return opened[0]

    yield make
    for stack in opened:
        stack.__exit__()


def arrivals(stack, after=0.0):
    return [call.at_s for call in stack.control.journal() if call.at_s >= after]


def purged_at(stack, user):
    """Wait for the call that purges a user; gives its arrival."""

    def calls():
        return [call.at_s for call in stack.control.journal() if call.ids == (user,)]

    return until(calls, seconds=20, why="the purge's call")[0]


@pytest.mark.fault("F86")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_ids_with_unknown_and_repeated_ones_end_with_exact_counts(
    make_stack, fault_report
):
    stack = make_stack(1_000, settings={"EXPUNGE_VERIFY": "none"})
    seeded = stack.seed(users=100, memories=990, seed=86)
    unknown = [f"never-heard-of-{number}" for number in range(1_000)]
    ordered = [*seeded.memory_ids, *unknown]
    random.Random(86).shuffle(ordered)
    repeated = ordered[:1_000]
    stack.submit([*ordered, *repeated], chunk_size=100, verify="sample:50")
    stack.start_worker(EXPUNGE_RATE_PER_SECOND="1000")

    verdict = stack.verdict(seconds=500)

    fault_report(verdict)
    verdict.assert_clean()
    (view,) = stack.views()
    assert (view.counts.requested, view.counts.unique) == (101_000, 100_000)
    assert view.counts.already_absent == 1_000
    assert view.result.value == "complete_with_already_absent"
    # A tenth of what one call for each id would cost, although every batch is refused at first.
    deletions = [call for call in stack.control.journal() if call.endpoint == "delete"]
    assert len(deletions) <= 13_000


@pytest.mark.fault("F87")
@pytest.mark.slow
def test_purges_overtake_a_long_line_of_bulk_work(make_stack, fault_report):
    stack = make_stack(50)
    seeded = stack.seed(users=60, memories=400, seed=87)
    bulk = [one for user in seeded.users[:45] for one in seeded.by_user[user]]
    stack.submit(bulk[:400], chunk_size=1)
    stack.start_worker()
    stack.wait_for_calls(50)
    waits, chance = [], random.Random(87)
    for user in seeded.users[45:]:
        time.sleep(chance.uniform(0, 0.2))
        began = time.monotonic()
        stack.purge(user)
        waits.append(purged_at(stack, user) - began)
    assert sum(view.counts.pending for view in stack.views()) > 0  # the line was never empty

    verdict = stack.verdict(seconds=60)

    fault_report(verdict, heals_s=max(waits))
    verdict.assert_clean()
    assert sorted(waits)[len(waits) // 2] < 1.0, waits
    assert max(waits) < 3.0, waits  # bench/load.py measures it behind a million


@pytest.mark.fault("F89", "F90")
@pytest.mark.slow
def test_workers_that_come_and_go_share_the_limit_exactly_and_use_it(make_stack, fault_report):
    rate = 20
    stack = make_stack(rate)
    seeded = stack.seed(users=1, memories=900, seed=89)
    stack.submit(seeded.memory_ids, chunk_size=1, verify="none")
    first = [stack.start_worker() for _ in range(2)]
    stack.wait_for_calls(100, seconds=60)
    more = [stack.start_worker() for _ in range(2)]
    stack.wait_for_calls(200, seconds=60)
    first[0].kill_group()
    with stack.valkey.client() as client:
        client.flushall()
    stack.wait_for_calls(400, seconds=60)
    steady = arrivals(stack)[250:]
    share = (len(steady) - 1) / (steady[-1] - steady[0]) / rate

    verdict = stack.verdict(seconds=60)

    fault_report(verdict)
    verdict.assert_clean()
    assert len(more) == 2
    assert share >= 0.9, share


@pytest.mark.fault("F91")
@pytest.mark.slow
def test_a_limit_that_is_lowered_holds_within_a_second(make_stack):
    stack = make_stack(40)
    seeded = stack.seed(users=1, memories=2_000, seed=91)
    stack.submit(seeded.memory_ids, chunk_size=1, verify="none")
    stack.start_worker()
    stack.wait_for_calls(60)

    stack.ledger.register(projects={}, rates={"default": 4.0}, decides=True)
    lowered = time.monotonic()

    until(lambda: time.monotonic() > lowered + 5, seconds=10, why="five seconds of calls")
    found = arrivals(stack, after=lowered + 1.0)
    assert 4 * 3 <= len(found) <= 4 * 4 + 1
    assert worst_window(found, 1.0 - NOTED_LATE_S) <= 4


@pytest.mark.slow
def test_no_call_starts_later_than_100_ms_after_a_pause_was_committed(make_stack):
    stack = make_stack(400)
    seeded = stack.seed(users=1, memories=4_000, seed=100)
    stack.submit(seeded.memory_ids, chunk_size=1, verify="none")
    for _ in range(2):
        stack.start_worker()
    stack.wait_for_calls(400, seconds=60)
    late = []
    for _ in range(5):
        stack.ledger.pause_project("default", principal="op", reason="test")
        committed = time.monotonic()
        time.sleep(0.7)
        late.append(max(arrivals(stack, after=committed), default=committed) - committed)
        seen = len(stack.control.journal())
        stack.ledger.resume_project("default", principal="op")
        stack.wait_for_calls(seen + 50)
    assert sorted(late)[len(late) // 2] <= 0.1, late
    # The simulator notes a call when its loop gets to it.
    assert max(late) <= 0.1 + NOTED_LATE_S, late
