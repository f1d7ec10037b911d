"""What MemOS may do wrong, one fault at a time: a real drain against the real simulator."""

import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from ledger import ReadbackPolicy
from ledger.settings import load_settings
from tests.support.stack import Stack
from worker.process import Process
from worker.stop import StopFlag

RATE = 200
LATENCY_S = 0.01
POLICY = ReadbackPolicy(settle_s=0.1)
LONGEST_S = 25


@pytest.fixture
def stack(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    settings = {"EXPUNGE_SETTLE_SECONDS": "0.1", "EXPUNGE_CALL_DEADLINE_SECONDS": "0.5"}
    with Stack(tmp_path, url, rate=RATE, latency_ms=1000 * LATENCY_S, settings=settings) as running:
        yield running


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Retries come after a twentieth of their longest wait."""
    monkeypatch.setattr("worker.drain.random", SimpleNamespace(random=lambda: 0.05))


def a_process(stack, **changed):
    settings = load_settings(stack.environment(**changed))
    return closing(Process(settings, role="drain", stop=StopFlag()))


@pytest.fixture
def process(stack):
    """A process that drains, in this one: `drain_to_the_end` runs it."""
    with a_process(stack) as one:
        yield one


def drain_to_the_end(stack, process):
    until = time.monotonic() + LONGEST_S
    while any(view.finished_at is None for view in stack.views()):
        assert time.monotonic() < until, [view.counts for view in stack.views()]
        if not process.drain(budget_s=5):
            process.ledger.sweep(max_attempts=8, policy=POLICY)
            time.sleep(0.05)


def order(stack):
    """Order 300 ids in 30 chunks (three of them never heard of) and three purges."""
    seeded = stack.control.seed(users=12, memories=40, seed=11)
    ordered = [one for user in seeded.users[:8] for one in seeded.by_user[user]][:297]
    unknown = ["never-heard-of-1", "never-heard-of-2", "never-heard-of-3"]
    mixed = [*ordered[:50], unknown[0], *ordered[50:120], *unknown[1:], *ordered[120:]]
    stack.submit(mixed, chunk_size=10)
    purged = seeded.users[9:12]
    for user in purged:
        stack.purge(user)
    return seeded, mixed, purged


def some(kind, **members):
    return {"kind": kind, "probability": 0.08, **members}


FAULTS = {
    "nothing": [],
    "bursts of 429": [
        {"kind": "http_429", "endpoint": "any", "from_call": 10, "count": 4, "retry_after": "1"},
        {"kind": "http_429", "endpoint": "any", "from_call": 40, "count": 2, "retry_after": "0"},
        {"kind": "http_429", "endpoint": "any", "from_call": 60, "count": 1},
    ],
    "broken connections": [
        some("reset_after_applying"),
        some("reset_before_applying"),
        some("truncated"),
    ],
    "slow answers": [some("slow_body", seconds=3), some("stall", seconds=3)],
    "failures": [
        some("http_5xx", endpoint="any"),
        some("failure_after_effect"),
        some("html"),
        some("empty"),
    ],
    "lies": [
        {"kind": "success_without_effect", "from_call": 5, "count": 4},
        some("delayed_effect", seconds=0.05, probability=0.5),
    ],
}


QUICK = {"lies", "broken connections"}


@pytest.mark.fault("F52", "F53", "F55", "F59", "F68", "F69", "F70", "F71")
@pytest.mark.parametrize(
    ("unknown_ids", "faults"),
    [
        *(
            pytest.param("all_or_nothing", name, marks=[] if name in QUICK else pytest.mark.slow)
            for name in FAULTS
        ),
        pytest.param("partial", "nothing", marks=pytest.mark.slow),
        pytest.param("partial", "broken connections", marks=pytest.mark.slow),
    ],
)
def test_the_counts_equal_the_simulators_truth_in_spite_of(stack, process, faults, unknown_ids):
    stack.control.set_settings(unknown_id_policy=unknown_ids)
    seeded, mixed, purged = order(stack)
    stack.control.set_faults(*FAULTS[faults])

    drain_to_the_end(stack, process)

    stack.assert_truth(seeded, ordered=mixed, purged=purged)
    stack.assert_within_rate()
    memories = next(view for view in stack.views() if view.counts.unique > 1)
    assert memories.counts.already_absent >= 3
    if (unknown_ids, faults) == ("all_or_nothing", "nothing"):
        assert memories.counts.already_absent == 3


@pytest.mark.fault("F57")
@pytest.mark.slow
def test_a_retry_after_rests_the_whole_account(stack, process):
    order(stack)
    rest_s = 2.0
    stack.control.set_faults(
        {"kind": "http_429", "endpoint": "any", "from_call": 15, "count": 1, "retry_after": "2"}
    )

    drain_to_the_end(stack, process)

    calls = stack.control.journal()
    refused = next(call for call in calls if call.fault == "http_429")
    answered_s = refused.at_s + LATENCY_S + 0.05
    assert not [c for c in calls if answered_s < c.at_s < refused.at_s + rest_s]
    after = [call.at_s for call in calls if call.at_s >= refused.at_s + rest_s]
    assert after[0] < refused.at_s + rest_s + 0.7  # and it goes on soon after


@pytest.mark.fault("F59")
def test_calls_refused_in_one_burst_count_as_one_strike(stack, process):
    order(stack)
    stack.control.set_faults({"kind": "http_429", "endpoint": "any", "count": 30})

    started = time.monotonic()
    process.drain(budget_s=1)
    rows = stack.rows("SELECT paused_until_ns, strikes FROM account")

    assert len([c for c in stack.control.journal() if c.fault]) > 1
    left_s = rows[0][0] / 1e9 - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 < left_s + time.monotonic() - started <= 4  # 1 to 2 s, were it not for a second one


@pytest.mark.fault("F60")
@pytest.mark.slow
def test_refusals_that_say_nothing_about_the_work_use_up_no_attempt(stack):
    order(stack)
    stack.control.set_faults(
        {"kind": "http_429", "endpoint": "any", "count": 5, "retry_after": "0"},
    )
    with a_process(stack, EXPUNGE_MAX_ATTEMPTS="1") as process:
        drain_to_the_end(stack, process)

    assert stack.scalar("SELECT count(*) FROM chunk WHERE state = 'dead'") == 0
    assert all(view.counts.unknown == 0 for view in stack.views())


@pytest.mark.fault("F63")
def test_a_bad_key_stops_the_project_and_burns_nothing(stack):
    order(stack)
    with a_process(stack, MEMOS_API_KEY="wrong-key") as process:
        process.drain(budget_s=3)
        process.drain(budget_s=1)

    assert stack.rows("SELECT paused FROM project") == [(1,)]
    assert stack.scalar("SELECT max(burnt) FROM chunk") == 0
    assert len(stack.control.journal()) <= 0.3 * RATE  # what was claimed before the first answer
    assert all(view.counts.pending == view.counts.unique for view in stack.views())


@pytest.mark.fault("F50")
def test_a_server_that_cannot_be_reached_uses_up_no_attempt(stack):
    order(stack)
    with a_process(stack, MEMOS_BASE_URL="http://127.0.0.1:1/api") as process:
        process.drain(budget_s=2)

    assert stack.scalar("SELECT max(burnt) FROM chunk") == 0
    assert stack.scalar("SELECT max(doubtful) FROM chunk") == 0
    assert stack.scalar("SELECT open_until_ns FROM project") > 0


@pytest.mark.fault("F53")
def test_what_never_has_an_answer_is_given_up_as_unknown_and_not_called_deleted(stack):
    seeded = stack.control.seed(users=1, memories=3, seed=1)
    stack.submit(seeded.memory_ids, chunk_size=3)
    stack.control.set_faults({"kind": "reset_before_applying", "endpoint": "any"})
    with a_process(stack, EXPUNGE_MAX_ATTEMPTS="2") as process:
        drain_to_the_end(stack, process)

    (view,) = stack.views()
    assert view.counts.unknown == 3
    assert view.state.value == "failed"
    stack.assert_nothing_in_doubt()
