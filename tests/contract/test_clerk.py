"""The ledger of a drain in a process of its own: the same answers, whatever becomes of it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from ledger import Keys, ReadbackPolicy, upgrade
from ledger.errors import LedgerError, SchemaError
from ledger.settings import Settings
from ledger.states import Result
from ledger.tasks import Delivered
from tests.support.ledger_world import make_order, settled
from worker import clerk_main, process
from worker.clerk import Clerk
from worker.desk import Desk, Office
from worker.process import Process, open_ledger
from worker.stop import StopFlag

POLICY = ReadbackPolicy()
CLAIM = {"worker": "w", "capacity": 8, "lead_s": 0.0, "lease_s": 30.0}
LONGEST_S = 20.0


@pytest.fixture
def settings(tmp_path, ledger_url):
    Keys.create(tmp_path / "keys")
    upgrade(ledger_url)
    return Settings(home=tmp_path, ledger_url=ledger_url, memos_api_key="key", rate_per_second=400)


@pytest.fixture
def ledger(settings):
    with closing(open_ledger(settings)) as opened:
        yield opened


@pytest.fixture
def clerk(settings, ledger):
    with closing(Clerk(settings, ledger, lines=2)) as one:
        yield one


def submit(ledger, n=6):
    intake = ledger.begin(make_order(verify="none", project="default"), chunk_size=2)
    intake.add([f"m{i}" for i in range(n)])
    return intake.finish().id


def pid_of(clerk):
    return clerk._desk._process.pid


def claim(clerk, calls=None):
    """Claim once a slot is near: the first is one interval from the ledger's first use."""
    calls = [] if calls is None else calls
    until = time.monotonic() + LONGEST_S
    while not (claimed := clerk.claim(**CLAIM)).tasks:
        assert time.monotonic() < until
        time.sleep(0.01)
    calls.extend(json.loads(call.body)["memory_ids"] for call in claimed.calls)
    return claimed.tasks


def test_what_is_claimed_recorded_and_ended_through_it_is_in_the_ledger(ledger, clerk):
    request_id = submit(ledger)
    calls: list[list[str]] = []
    tasks = claim(clerk, calls)
    assert calls == [["m0", "m1"], ["m2", "m3"], ["m4", "m5"]]
    assert [(task.ids, task.n) for task in tasks] == [((), 2)] * 3
    assert clerk.record([settled(task, Delivered()) for task in tasks]) == [request_id]
    ended = clerk.advance(request_id, policy=POLICY)
    assert (ended.request_id, ended.result) == (request_id, Result.COMPLETE)
    assert ledger.status(request_id).result is Result.COMPLETE


def test_a_large_request_is_left_open_when_asked_to(ledger, clerk):
    request_id = submit(ledger)
    clerk.record([settled(task, Delivered()) for task in claim(clerk)])
    assert clerk.advance(request_id, policy=POLICY, most_chunks=2) is None
    assert clerk.advance(request_id, policy=POLICY, most_chunks=3) is not None


def test_its_claims_are_of_the_clock_of_whoever_asks(ledger, clerk):
    submit(ledger)
    claim(clerk)
    before = time.monotonic_ns()
    mono_ns = clerk.claim(**CLAIM).mono_ns
    assert before < mono_ns < time.monotonic_ns()


def test_slots_are_moved_and_stops_are_told(ledger, clerk):
    submit(ledger)
    claim(clerk)
    clerk.postpone("default", by_ns=3_600 * 10**9)
    submit(ledger)
    assert clerk.claim(**CLAIM).tasks == ()
    assert clerk.halts() == ledger.halts()


def test_an_error_of_the_ledger_comes_back_with_all_that_it_says(ledger, clerk):
    ledger._database.write(
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    with pytest.raises(SchemaError, match="release") as caught:
        clerk.claim(**CLAIM)
    assert caught.value.found == "9999"


def test_an_error_that_nobody_expects_is_told_by_its_class_only(clerk):
    with pytest.raises(LedgerError, match="TypeError") as caught:
        clerk.claim(worker="w", secret="hush")
    assert "hush" not in str(caught.value)


def test_one_that_was_killed_is_replaced_and_the_next_question_is_answered(ledger, clerk):
    request_id = submit(ledger)
    tasks = claim(clerk)
    os.kill(pid_of(clerk), signal.SIGKILL)
    with capture_logs() as logs, pytest.raises(LedgerError) as caught:
        clerk.record([settled(task, Delivered()) for task in tasks])
    assert caught.value.cause == "clerk_lost"
    assert [one["event"] for one in logs] == ["clerk_lost"]
    assert clerk.record([settled(task, Delivered()) for task in tasks]) == [request_id]
    assert ledger.status(request_id).counts.acknowledged == 6


def test_what_one_recorded_before_it_was_killed_is_not_recorded_twice(settings, ledger):
    armed = settings.model_copy(update={"crash_points": "record.after_commit@1=kill"})
    request_id = submit(ledger)
    with closing(Clerk(armed, ledger, lines=1)) as clerk:
        outcomes = [settled(task, Delivered()) for task in claim(clerk)]
        with pytest.raises(LedgerError):
            clerk.record(outcomes)
        assert clerk.record(outcomes) == [request_id]
    view = ledger.status(request_id)
    assert (view.counts.acknowledged, view.counts.pending, view.attempts) == (6, 0, 3)


def test_one_that_does_not_answer_is_replaced_too(ledger, clerk, monkeypatch):
    submit(ledger)
    claim(clerk)
    monkeypatch.setattr("worker.desk._PATIENCE_S", 0.2)
    stopped = pid_of(clerk)
    os.kill(stopped, signal.SIGSTOP)
    # Sent is not stopped: until its last thread is, one of them may still answer.
    os.waitid(os.P_PID, stopped, os.WSTOPPED | os.WNOWAIT)
    with pytest.raises(LedgerError) as caught:
        clerk.claim(**CLAIM)
    assert caught.value.cause == "clerk_lost"
    monkeypatch.undo()
    clerk.claim(**CLAIM)
    assert pid_of(clerk) != stopped


def test_a_signal_to_the_whole_group_does_not_end_it(ledger, clerk):
    submit(ledger)
    before = pid_of(clerk)
    claim(clerk)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(before, number)
    clerk.claim(**CLAIM)
    assert pid_of(clerk) == before


def test_it_ends_with_the_process_that_started_it(settings, tmp_path):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from ledger.settings import Settings\n"
        "from worker.clerk import Clerk\n"
        f"settings = Settings(home=Path({str(tmp_path)!r}), ledger_url={settings.ledger_url!r})\n"
        "clerk = Clerk(settings, None, lines=1)\n"
        "print(clerk._desk._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    watched = os.pidfd_open(int(starter.stdout.readline()))
    try:
        starter.kill()
        starter.wait()
        assert select.select([watched], [], [], LONGEST_S)[0]
    finally:
        os.close(watched)
        starter.stdout.close()


@pytest.mark.parametrize(("rate", "has_one"), [(299, False), (300, True)])
def test_only_fast_accounts_have_one(settings, rate, has_one):
    chosen = settings.model_copy(update={"rate_per_second": rate})
    assert process.CLERK_FROM_PER_S == 300
    with closing(Process(chosen, role="drain", stop=StopFlag())) as one:
        one.drain(budget_s=0.1)
        assert isinstance(one._books, Clerk) is has_one


def test_processes_that_make_or_prepare_calls_look_for_cycles_of_garbage_seldom(
    settings, monkeypatch
):
    calls: list[str] = []
    monkeypatch.setattr(process, "collect_seldom", lambda: calls.append("drain"))
    monkeypatch.setattr(clerk_main, "collect_seldom", lambda: calls.append("clerk"))
    with closing(Process(settings, role="drain", stop=StopFlag())) as one:
        one.drain(budget_s=0.1)
        one.drain(budget_s=0.1)
    with closing(clerk_main._Room()) as room:
        for _ in range(2):
            assert room.answer(Office.of(settings), "halts", {})[0]
    assert calls == ["drain", "clerk"]


def test_one_whose_work_can_wait_gathers_the_same_and_makes_nobody_wait(settings, ledger):
    request_id = submit(ledger)
    desk = Desk(Office.of(settings), lines=1, spare=True)
    try:
        given = {"request_id": request_id, "policy": POLICY}
        well, ending = desk.ask("look_back", given)
        assert well
        assert ending.whole
        assert ending == ledger.look_back(request_id, policy=POLICY)
        if sys.platform == "linux":
            threads = Path(f"/proc/{desk._process.pid}/task").iterdir()
            assert {os.sched_getscheduler(int(one.name)) for one in threads} == {os.SCHED_IDLE}
    finally:
        desk.close()
