"""Wall clocks that are wrong, jump, or disagree: leases, rests and the rate do not go by them."""

import itertools
import time
from types import SimpleNamespace

import pytest

from tests.support.draining import drained_by, processes
from tests.support.stack import Stack, until

RATE = 50.0
LATENCY_S = 0.02
pytestmark = pytest.mark.timeout(300)
HOURS_S = 7_200

# Python runs it before anything else: of this process the wall clock alone is off.
_SITE = """
import time
_now, _now_ns, _mono = time.time, time.time_ns, time.monotonic
def _offset():
    return {offset}
time.time = lambda: _now() + _offset()
time.time_ns = lambda: _now_ns() + int(_offset() * 1_000_000_000)
"""


@pytest.fixture
def stack(tmp_path, ledger_url):
    with Stack(tmp_path, ledger_url, rate=RATE, latency_ms=1_000 * LATENCY_S) as running:
        yield running


def set_off(tmp_path, name, offset):
    """Give the environment of a worker whose wall clock is off by this expression."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SITE.format(offset=offset))
    return {"PYTHONPATH": str(folder)}


def assert_no_overlap(stack):
    """No two calls for one chunk were under way at one moment."""
    spans: dict[frozenset[str], list[float]] = {}
    for call in stack.control.journal():
        if call.endpoint == "delete" and call.ids:
            spans.setdefault(frozenset(call.ids), []).append(call.at_s)
    assert spans
    for times in spans.values():
        assert all(late - early > LATENCY_S for early, late in itertools.pairwise(times))


@pytest.mark.slow
@pytest.mark.fault("F81")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{HOURS_S}", "0"),
        (f"-{HOURS_S}", "0"),
        (f"{HOURS_S}", f"{HOURS_S}"),
        (f"-{HOURS_S}", f"{HOURS_S}"),
        (f"{HOURS_S} if int(_mono()) % 2 else -{HOURS_S}", "0"),
    ],
    ids=["one ahead", "one behind", "all ahead", "apart", "one jumps each second"],
)
def test_workers_with_wrong_clocks_neither_overlap_nor_hurry(
    stack, tmp_path, fault_report, one, other
):
    for number, offset in enumerate((one, other)):
        stack.start_worker(**set_off(tmp_path, f"clock-{number}", offset))
    seeded = stack.seed(users=6, memories=100, seed=31)
    ids = [name for user in seeded.users[:4] for name in seeded.by_user[user]]
    stack.submit(ids, chunk_size=2, verify="sample:20")
    stack.purge(seeded.users[4])
    # A rest and an outage in the midst of it.
    stack.control.set_faults(
        {"kind": "http_429", "endpoint": "any", "from_call": 40, "count": 1, "retry_after": "2"},
        {"kind": "http_5xx", "endpoint": "any", "from_call": 90, "count": 7},
    )

    verdict = stack.verdict(seconds=120)

    fault_report(verdict)
    # When calls were claimed is noted by the worker's wall clock, for people.
    unexpected = [one for one in verdict.findings if "before it was claimed" not in one]
    assert unexpected == []
    assert verdict.excess == 0
    assert_no_overlap(stack)
    calls = stack.control.journal()
    refused = next(call for call in calls if call.fault == "http_429")
    after = [call.at_s for call in calls if call.at_s > refused.at_s + 0.5]
    assert after[0] - refused.at_s >= 2.0
    assert stack.scalar("SELECT count(*) FROM chunk WHERE state = 'dead'") == 0


@pytest.mark.slow
@pytest.mark.fault("F81", "F82")
def test_a_wall_clock_that_jumps_at_each_look_shortens_no_rest(tmp_path, monkeypatch, fault_report):
    monkeypatch.setattr("worker.drain.random", SimpleNamespace(random=lambda: 0.05))
    jumps = itertools.cycle([0, HOURS_S, -HOURS_S])
    monkeypatch.setattr(
        "ledger.clock.time",
        SimpleNamespace(
            time_ns=lambda: time.time_ns() + next(jumps) * 1_000_000_000,
            clock_gettime_ns=time.clock_gettime_ns,
            CLOCK_MONOTONIC=time.CLOCK_MONOTONIC,
            CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
        ),
    )
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Stack(tmp_path, url, rate=RATE, latency_ms=1_000 * LATENCY_S) as stack:
        ids = stack.seed(users=1, memories=80, seed=32).memory_ids
        stack.submit(ids, chunk_size=1, verify="none")
        stack.control.set_faults(
            {"kind": "http_429", "endpoint": "any", "from_call": 20, "count": 1, "retry_after": "2"}
        )
        with processes(stack, 2) as both, drained_by(stack, both):
            until(
                lambda: all(view.finished_at is not None for view in stack.views()),
                seconds=30,
                why="the work to end",
            )
        verdict = stack.verdict()
        fault_report(verdict)
        assert [one for one in verdict.findings if "before it was claimed" not in one] == []
        calls = stack.control.journal()
        refused = next(call for call in calls if call.fault == "http_429")
        after = [call.at_s for call in calls if call.at_s > refused.at_s + 0.5]
        assert after[0] - refused.at_s >= 2.0
        assert_no_overlap(stack)
