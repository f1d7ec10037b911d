"""What MemOS answers, one oddity at a time: a real drain against the real simulator."""

import time
from types import SimpleNamespace

import pytest

from memos_api.simulator.process import SimulatorProcess
from tests.support.draining import drain_to_the_end, drained_by, processes
from tests.support.stack import Stack, until

RATE = 100


@pytest.fixture
def stack(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    settings = {"EXPUNGE_SETTLE_SECONDS": "0.1", "EXPUNGE_CALL_DEADLINE_SECONDS": "0.5"}
    with Stack(tmp_path, url, rate=RATE, latency_ms=10, settings=settings) as running:
        yield running


@pytest.fixture
def process(stack):
    with processes(stack) as (one,):
        yield one


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Retries come after a twentieth of their longest wait."""
    monkeypatch.setattr("worker.drain.random", SimpleNamespace(random=lambda: 0.05))


def deletions(stack):
    return [call for call in stack.control.journal() if call.endpoint == "delete"]


def burnt(stack):
    return stack.scalar("SELECT max(burnt) FROM chunk")


def dead(stack):
    return stack.scalar("SELECT count(*) FROM chunk WHERE state = 'dead'")


def end(stack, process, fault_report, **options):
    """Drain to the end and let the oracle judge; gives all requests."""
    drain_to_the_end(stack, process, **options)
    verdict = stack.verdict(seconds=1)
    fault_report(verdict)
    verdict.assert_clean()
    return stack.views()


# -- answers that get lost ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "already_absent"),
    [
        pytest.param("reset_after_applying", 30, marks=pytest.mark.fault("F52", "F53")),
        pytest.param(
            "reset_before_applying", 0, marks=[pytest.mark.fault("F53"), pytest.mark.slow]
        ),
        pytest.param("truncated", 30, marks=pytest.mark.fault("F70")),
        pytest.param("empty", 30, marks=[pytest.mark.fault("F69"), pytest.mark.slow]),
        pytest.param("html", 0, marks=[pytest.mark.fault("F68"), pytest.mark.slow]),
        pytest.param("slow_body", 30, marks=[pytest.mark.fault("F55"), pytest.mark.slow]),
    ],
)
def test_a_lost_answer_is_settled_by_looking_and_not_by_guessing(
    stack, process, fault_report, kind, already_absent
):
    """Three chunks have none: applied or not, the counts say what MemOS has."""
    ids = stack.seed(users=1, memories=80, seed=1).memory_ids
    stack.submit(ids, chunk_size=10, verify="full")
    fault = {"kind": kind, "from_call": 2, "count": 3, "seconds": 2.0}
    stack.control.set_faults(fault | ({"status": 200} if kind == "html" else {}))

    (view,) = end(stack, process, fault_report)

    assert view.counts.already_absent == already_absent
    assert view.counts.verified_absent == 80 - already_absent
    in_doubt = stack.rows("SELECT outcome FROM attempt WHERE outcome = 'unknown'")
    assert len(in_doubt) == 3
    assert len(deletions(stack)) == 8 + 3  # each is sent once more, and nothing is bisected


@pytest.mark.fault("F54")
@pytest.mark.parametrize("kind", ["reset_then_applying", "delayed_effect"])
@pytest.mark.parametrize("late_s", [0.0, pytest.param(0.7, marks=pytest.mark.slow)])
def test_a_deletion_that_shows_late_is_waited_for(stack, process, fault_report, kind, late_s):
    ids = stack.seed(users=1, memories=30, seed=2).memory_ids
    stack.submit(ids, chunk_size=10, verify="full")
    stack.control.set_faults({"kind": kind, "from_call": 1, "count": 1, "seconds": late_s})

    (view,) = end(stack, process, fault_report)

    assert view.counts.verified_absent + view.counts.already_absent == 30
    assert dead(stack) == 0


# -- being told to wait ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("F57")
def test_a_retry_after_stops_all_workers_for_so_long_and_one_call_goes_first(stack, fault_report):
    ids = stack.seed(users=1, memories=300, seed=3).memory_ids
    stack.submit(ids, chunk_size=1, verify="none")
    rest_s = 3.0
    stack.control.set_faults(
        {"kind": "http_429", "endpoint": "any", "from_call": 40, "count": 1, "retry_after": "3"}
    )
    with processes(stack, 3) as several, drained_by(stack, several):
        stack.wait_for_end()
    verdict = stack.verdict()
    fault_report(verdict)
    verdict.assert_clean()

    calls = stack.control.journal()
    refused = next(call for call in calls if call.fault)
    after = [call.at_s for call in calls if call.at_s > refused.at_s + 0.5]
    assert after[0] - refused.at_s >= rest_s
    assert after[1] - after[0] >= 0.01  # the second waited for the first one's answer
    assert (burnt(stack), dead(stack)) == (0, 0)


@pytest.mark.slow
@pytest.mark.fault("F57")
def test_a_retry_after_of_seven_seconds_is_seven_seconds_for_whole_workers(stack, fault_report):
    for _ in range(2):
        stack.start_worker()
    ids = stack.seed(users=1, memories=900, seed=3).memory_ids
    stack.submit(ids, chunk_size=1, verify="none")
    stack.wait_for_calls(100)
    seen = len(stack.control.journal())
    stack.control.set_faults(
        {"kind": "http_429", "endpoint": "any", "count": 1, "retry_after": "7"}
    )
    verdict = stack.verdict()
    fault_report(verdict)
    verdict.assert_clean()

    calls = stack.control.journal(after=seen)
    refused = next(call for call in calls if call.fault)
    after = [call.at_s for call in calls if call.at_s > refused.at_s + 0.5]
    assert after[0] - refused.at_s >= 7.0


@pytest.mark.slow
@pytest.mark.fault("F60")
def test_a_limiter_that_counts_refused_calls_lets_the_work_through(stack, process, fault_report):
    """Who knocks on at full rate is never let in again: MemOS has such a limiter."""
    ids = stack.seed(users=1, memories=40, seed=4).memory_ids
    stack.submit(ids, chunk_size=1, verify="none")
    stack.control.set_limit(10, count_refused=True, retry_after=False)

    end(stack, process, fault_report)

    refused = [call for call in stack.control.journal() if call.fault == "rate"]
    assert len(refused) > 0
    assert (burnt(stack), dead(stack)) == (0, 0)


# -- keys, quotas, addresses ----------------------------------------------------------------------


@pytest.mark.fault("F63")
@pytest.mark.parametrize(
    "refusal",
    [
        {"kind": "code", "code": 40132, "status": 401},
        pytest.param({"kind": "code", "code": 40103}, marks=pytest.mark.slow),
        pytest.param({"kind": "http_5xx", "status": 401}, marks=pytest.mark.slow),
        pytest.param({"kind": "http_5xx", "status": 403}, marks=pytest.mark.slow),
    ],
    ids=["code and 401", "code only", "401 without a code", "403 without a code"],
)
def test_a_key_that_is_revoked_stops_the_project_until_somebody_resumes_it(
    stack, process, fault_report, refusal
):
    ids = stack.seed(users=1, memories=300, seed=5).memory_ids
    stack.submit(ids, chunk_size=2, verify="none")
    stack.control.set_faults({**refusal, "endpoint": "any", "from_call": 30})
    stopped = "SELECT paused FROM project WHERE name = 'default'"
    drain_to_the_end(stack, process, until=lambda: stack.scalar(stopped) == 1)
    process.drain(budget_s=0.5)

    refused = [call for call in stack.control.journal() if call.fault]
    assert len(refused) <= 0.4 * RATE  # claimed before the first refusal was recorded
    assert (burnt(stack), dead(stack)) == (0, 0)
    (pause,) = stack.ledger.pauses()
    assert (pause.scope, pause.name) == ("project", "default")
    (view,) = stack.views()
    assert view.finished_at is None

    stack.control.clear_faults()
    assert process.drain(budget_s=0.5) is False
    assert len([call for call in stack.control.journal() if not call.fault]) == 30
    assert stack.ledger.resume_project("default", principal="somebody")
    end(stack, process, fault_report)


@pytest.mark.slow
@pytest.mark.fault("F64")
@pytest.mark.parametrize("code", [40304, 40309])
def test_a_used_up_quota_stops_the_account_and_ends_by_itself(
    stack, process, fault_report, monkeypatch, code
):
    monkeypatch.setattr("worker.judge.QUOTA_PAUSE_S", 1.5)
    ids = stack.seed(users=1, memories=200, seed=6).memory_ids
    stack.submit(ids, chunk_size=2, verify="none")
    stack.control.set_faults({"kind": "code", "code": code, "endpoint": "any", "from_call": 20})
    resting = "SELECT strikes FROM account WHERE name = 'default'"
    drain_to_the_end(stack, process, until=lambda: stack.scalar(resting) >= 2)

    (pause,) = stack.ledger.pauses()
    assert (pause.scope, pause.reason) == ("account", f"code_{code}")
    refused = [call.at_s for call in stack.control.journal() if call.fault]
    trial = refused[-1]
    assert trial - refused[-2] >= 1.4
    assert (burnt(stack), dead(stack)) == (0, 0)
    stack.control.clear_faults()

    end(stack, process, fault_report)

    well = next(call.at_s for call in stack.control.journal() if call.at_s > trial)
    assert well - trial >= 3.0  # twice as long as before


@pytest.mark.fault("F65")
@pytest.mark.parametrize("status", [404, 410, 405])
def test_a_missing_path_stops_the_project_and_judges_no_id(stack, process, fault_report, status):
    ids = stack.seed(users=1, memories=60, seed=7).memory_ids
    stack.submit(ids, chunk_size=10)
    stack.control.set_faults({"kind": "http_5xx", "status": status})
    process.drain(budget_s=1)

    (pause,) = stack.ledger.pauses()
    assert (pause.scope, pause.reason) == ("project", f"http_{status}")
    (view,) = stack.views()
    assert view.counts.pending == view.counts.unique
    stack.control.clear_faults()
    stack.ledger.resume_project("default", principal="somebody")

    end(stack, process, fault_report)


@pytest.mark.slow
@pytest.mark.fault("F65")
@pytest.mark.parametrize("as_http", [False, True])
def test_an_unknown_id_is_an_outcome_of_that_id_whatever_the_status(
    stack, process, fault_report, as_http
):
    stack.control.set_settings(errors_as_http=as_http)  # 40307 comes with 404 then
    ids = stack.seed(users=1, memories=31, seed=8).memory_ids
    stack.submit([*ids, "never-heard-of"], chunk_size=32, verify="full")

    (view,) = end(stack, process, fault_report)

    assert (view.counts.already_absent, view.counts.verified_absent) == (1, 31)
    assert stack.ledger.pauses() == []


# -- ids ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("F66")
def test_one_id_that_may_not_be_deleted_is_refused_alone(stack, tmp_path, fault_report):
    """It belongs to another project: MemOS refuses the whole batch of a hundred for it.

    What is refused is read back, and in this project it is not there.
    """
    with SimulatorProcess(latency_ms=5, api_keys=("mine", "theirs")) as shared:
        control = shared.control
        ids = control.seed(users=1, memories=99, seed=9, api_key="mine").memory_ids
        control.seed_ids(["not-mine"], user_id="somebody-else", api_key="theirs")
        stack.submit([*ids[:41], "not-mine", *ids[41:]], chunk_size=100, verify="full")
        environment = {"MEMOS_API_KEY": "mine", "MEMOS_BASE_URL": shared.base_url}
        with processes(stack, 1, **environment) as (process,):
            drain_to_the_end(stack, process)

        (view,) = stack.views()
        assert (view.counts.refused, view.counts.verified_absent) == (0, 100)
        assert view.result == "complete"
        assert control.remaining(ids=ids, api_key="mine").ids == []
        assert control.remaining(ids=["not-mine"], api_key="theirs").ids == ["not-mine"]
        calls = [call for call in control.journal() if call.endpoint == "delete"]
        assert len(calls) <= 2 * 7 + 2  # two for each of log2(100) levels
        stack.assert_nothing_in_doubt()
        fault_report()


# -- answers that do not tell the truth -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("F67")
def test_an_undocumented_code_is_tried_again_and_never_taken_for_success(stack):
    ids = stack.seed(users=1, memories=4, seed=10).memory_ids
    stack.submit(ids, chunk_size=2)
    stack.control.set_faults({"kind": "code", "code": 49999, "endpoint": "delete"})
    with processes(stack, EXPUNGE_MAX_ATTEMPTS="2") as (process,):
        drain_to_the_end(stack, process)

    (view,) = stack.views()
    # They are looked at, and found.
    assert view.counts.refused + view.counts.unknown + view.counts.still_present == 4
    assert view.state == "failed"
    # Each was tried twice; what may be about one id of a batch was put to single ids first.
    assert len(deletions(stack)) == 4 * 2 + 2


@pytest.mark.slow
@pytest.mark.fault("F67")
@pytest.mark.parametrize("code", [59999, 70000])
def test_an_undocumented_code_of_the_server_is_waited_out_and_never_taken_for_success(stack, code):
    ids = stack.seed(users=1, memories=4, seed=10).memory_ids
    stack.submit(ids, chunk_size=2)
    stack.control.set_faults({"kind": "code", "code": code, "endpoint": "delete"})
    with processes(stack, EXPUNGE_MAX_ATTEMPTS="2") as (process,):
        drain_to_the_end(stack, process, until=lambda: len(deletions(stack)) >= 4)  # each twice
        (view,) = stack.views()
        assert (view.counts.verified_absent, view.finished_at) == (0, None)
        stack.control.set_faults()
        drain_to_the_end(stack, process, seconds=90)

    (view,) = stack.views()
    assert (view.result, view.counts.verified_absent) == ("complete", 4)


@pytest.mark.slow
@pytest.mark.fault("F71")
@pytest.mark.parametrize("kind", ["memories", "user"])
def test_a_server_that_lies_to_the_end_is_found_out(stack, process, monkeypatch, kind):
    monkeypatch.setattr("ledger.judging.GROWTH", 1)
    monkeypatch.setattr("ledger.reading.GROWTH", 1)
    seeded = stack.seed(users=1, memories=12, seed=11)
    if kind == "user":
        stack.purge(seeded.users[0])
    else:
        stack.submit(seeded.memory_ids, chunk_size=4)
    stack.control.set_faults({"kind": "success_without_effect"})

    drain_to_the_end(stack, process)

    (view,) = stack.views()
    assert view.counts.still_present == view.counts.unique
    assert (view.state, view.certainty) == ("failed", "still_present")
    assert view.counts.acknowledged == view.counts.verified_absent == 0


@pytest.mark.fault("F71")
@pytest.mark.parametrize("fault", ["http_5xx", "truncated", "html", "empty", "stall"])
def test_a_read_back_that_fails_is_no_sign_of_absence(stack, fault):
    """MemOS deletes nothing, and whatever is asked about it gets no proper answer."""
    ids = stack.seed(users=1, memories=3, seed=12).memory_ids
    stack.submit(ids, chunk_size=3, verify="full")
    stack.control.set_faults(
        {"kind": "success_without_effect"},
        {"kind": fault, "endpoint": "read", "seconds": 2.0},
    )
    with processes(stack, EXPUNGE_MAX_ATTEMPTS="1") as (impatient,):
        drain_to_the_end(stack, impatient)
    (view,) = stack.views()
    assert (view.counts.unknown, view.counts.verified_absent) == (3, 0)
    assert (view.state, view.certainty) == ("failed", "unverifiable")


@pytest.mark.slow
@pytest.mark.fault("F72")
def test_a_success_for_fewer_than_were_asked_is_not_rounded_up(stack, process, fault_report):
    ids = stack.seed(users=1, memories=40, seed=13).memory_ids
    stack.submit(ids, chunk_size=10, verify="sample:20")
    stack.control.set_faults({"kind": "half_effect", "count": 2})

    (view,) = end(stack, process, fault_report)

    # One that is still there turns the sample into a look at everything.
    assert (view.counts.verified_absent, view.certainty) == (40, "verified")
    assert view.retried == 2


@pytest.mark.slow
@pytest.mark.fault("F72")
def test_a_success_that_took_more_than_was_asked_is_counted_by_what_was_asked(
    stack, process, fault_report
):
    """The answer names no number, so what went beyond the order shows in the next one only."""
    seeded = stack.seed(users=1, memories=40, seed=14)
    stack.submit(seeded.memory_ids[:10], chunk_size=10, verify="full")
    stack.control.set_faults({"kind": "wider_effect", "count": 1})
    drain_to_the_end(stack, process)
    (first,) = stack.views()
    stack.submit(seeded.memory_ids[10:], chunk_size=10, verify="full")

    views = end(stack, process, fault_report)

    (later,) = [view for view in views if view.id != first.id]
    assert (first.counts.verified_absent, first.counts.unique) == (10, 10)
    assert (later.counts.already_absent, later.counts.unique) == (30, 30)


@pytest.mark.slow
@pytest.mark.fault("F61", "F62")
def test_a_server_that_fails_for_a_while_gets_few_calls_and_then_all(stack, fault_report):
    ids = stack.seed(users=1, memories=400, seed=15).memory_ids
    stack.submit(ids, chunk_size=2, verify="none")
    with processes(stack, 3) as several, drained_by(stack, several):
        stack.wait_for_calls(30)
        stack.control.set_faults({"kind": "http_5xx", "endpoint": "any"})
        began = time.monotonic()
        until(
            lambda: stack.scalar("SELECT failures FROM project") > 6,
            seconds=20,
            why="two trials to fail",
        )
        stack.control.clear_faults()
        healed = time.monotonic()
        stack.wait_for_end()
        ended = time.monotonic()
    verdict = stack.verdict()
    fault_report(verdict, heals_s=ended - healed)
    verdict.assert_clean()

    failed = [call.at_s for call in stack.control.journal() if call.fault]
    alone = [at for at in failed if at > failed[0] + 0.8]
    assert len(failed) - len(alone) <= 0.5 * RATE
    assert len(alone) <= 1 + (healed - began)  # no two of them within a second
    assert burnt(stack) <= 1
