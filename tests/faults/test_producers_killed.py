"""A producer that dies around its commit: the same order under the same key is the same request."""

import json
import subprocess
import sys
from contextlib import closing

import pytest

from ledger import Kind, ReadbackPolicy
from ledger.settings import load_settings
from tests.support.stack import Stack
from worker.process import Process
from worker.stop import StopFlag

KEY = "order-4711"


@pytest.fixture
def stack(tmp_path, ledger_url):
    with Stack(tmp_path, ledger_url) as running:
        yield running


def submit(stack, ids, **changed):
    """Hand in by the command line; gives exit code and receipt, if there was one."""
    command = [sys.executable, "-m", "expunge", "submit", "--idempotency-key", KEY, "-o", "json"]
    command += [part for one in ids for part in ("--memory-id", one)]
    done = subprocess.run(
        command,
        env=stack.environment(**changed),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("point", "taken"), [("submit.before_commit@1", False), ("submit.after_commit@1", True)]
)
def test_a_producer_killed_around_its_commit_hands_in_again_and_orders_once(
    stack, point, taken, fault_report
):
    ids = stack.seed(users=1, memories=5).memory_ids
    accepted = "SELECT id FROM request WHERE state <> 'receiving'"
    number = stack.orders.attempt(Kind.MEMORIES, ids=ids)

    code, receipt = submit(stack, ids, EXPUNGE_CRASH_POINTS=f"{point}=kill")
    assert (code, receipt) == (-9, None)
    assert len(stack.rows(accepted)) == taken
    code, receipt = submit(stack, ids)

    assert code == 0
    assert receipt["duplicate"] is taken
    assert stack.rows(accepted) == [(receipt["id"],)]
    assert stack.scalar("SELECT count(*) FROM request") == 1
    stack.orders.acknowledge(number, receipt["id"])
    with closing(Process(load_settings(stack.environment()), role="drain", stop=StopFlag())) as one:
        while any(view.finished_at is None for view in stack.views()):
            # What was taken in and not put in line by its producer is put there by the sweep.
            one.ledger.sweep(max_attempts=8, policy=ReadbackPolicy(settle_s=0.1))
            one.drain(budget_s=5)
    verdict = stack.verdict()
    fault_report(verdict)
    verdict.assert_clean()
    assert len([one for one in stack.control.journal() if one.endpoint == "delete"]) == 1
