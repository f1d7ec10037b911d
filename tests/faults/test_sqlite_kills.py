"""A process that writes to SQLite is killed at any moment: what it was told is so, and no more."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from ledger import Ledger
from ledger.migrate import upgrade
from tests.support.kill_writer import KEYS, POLICY, answer, settlement

pytestmark = pytest.mark.fault("F36")


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(12), id="12 seeds"),
        pytest.param(
            range(200), id="200 seeds", marks=[pytest.mark.slow, pytest.mark.timeout(600)]
        ),
    ],
)
def test_whatever_moment_a_writer_is_killed_at_the_ledger_is_whole(tmp_path, seeds):
    path = tmp_path / "ledger.db"
    url, journal = f"sqlite:///{path}", tmp_path / "journal"
    upgrade(url)
    journal.touch()
    command = [sys.executable, "-m", "tests.support.kill_writer", url, str(journal)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forker:
        assert forker.stdin is not None
        assert forker.stdout is not None
        assert forker.stdout.readline() == "ready\n"
        for seed in seeds:
            before = journal.stat().st_size
            forker.stdin.write(f"{seed}\n")
            forker.stdin.flush()
            pid = int(forker.stdout.readline())
            # From the first confirmed act on, so that every seed kills one that is at work.
            while journal.stat().st_size == before:
                time.sleep(0.002)
            time.sleep(random.Random(seed).uniform(0, 0.15))
            os.kill(pid, signal.SIGKILL)
            assert forker.stdout.readline() == "gone\n"
            if seed % 10 == 0:
                assert_whole(path)
        forker.stdin.close()
    assert_whole(path)
    assert_as_told(path, [json.loads(line) for line in journal.read_text().splitlines()])
    with Ledger.open(url, keys=KEYS) as ledger:
        drain_completely(ledger)
    assert_counts(path)


def ask(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def assert_whole(path):
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, "PRAGMA foreign_key_check") == []
    # No request without all of its chunks, none without its event, no event without its body.
    assert (
        ask(
            path,
            "SELECT r.id FROM request r WHERE r.state <> 'receiving' AND r.unique_ids <> (SELECT"
            " coalesce(sum(n), 0) FROM chunk WHERE request_id = r.id AND state <> 'split')",
        )
        == []
    )
    assert (
        ask(
            path,
            "SELECT r.id FROM request r WHERE r.state <> 'receiving' AND 1 <> (SELECT count(*)"
            " FROM event WHERE request = r.id AND type = 'request.accepted')",
        )
        == []
    )
    assert ask(path, "SELECT id FROM event WHERE id NOT IN (SELECT event FROM event_body)") == []
    # Every call has its record of intent.
    claims = {
        json.loads(payload)["claim"]: json.loads(payload)["calls"]
        for (payload,) in ask(
            path,
            "SELECT payload FROM event_body JOIN event ON event = id WHERE type = 'calls.intent'",
        )
    }
    assert claims == dict(ask(path, "SELECT claim, count(*) FROM attempt GROUP BY claim"))


def assert_as_told(path, told):
    accepted = {one["accepted"]: one["unique"] for one in told if "accepted" in one}
    assert accepted
    there = dict(ask(path, "SELECT id, unique_ids FROM request"))
    assert {one: there.get(one) for one in accepted} == accepted
    attempts = {
        (claim, place): outcome
        for claim, place, outcome in ask(path, "SELECT claim, place, outcome FROM attempt")
    }
    calls = [tuple(call) for one in told for call in one.get("calls", ())]
    assert calls
    assert set(calls) <= set(attempts)
    recorded = [tuple(call) for one in told for call in one.get("recorded", ())]
    assert all(attempts[call] is not None for call in recorded)


def drain_completely(ledger):
    chance = random.Random(36)
    end = time.monotonic() + 90
    while any(view.finished_at is None for view in ledger.list_requests(limit=100_000)):
        assert time.monotonic() < end, "the work did not end in time"
        for _ in range(100):
            claim = ledger.claim(worker="last", capacity=1_000, lead_s=0, lease_s=60)
            for request_id in ledger.record(
                [settlement(task, answer(task, chance)) for task in claim.tasks]
            ):
                ledger.advance(request_id, policy=POLICY)
            if not claim.tasks:
                break
        ledger.sweep(max_attempts=1_000, policy=POLICY)


def assert_counts(path):
    """Nothing is left over, and each id is counted once."""
    assert (
        ask(
            path,
            "SELECT id FROM request WHERE finished_at IS NULL OR unknown + cancelled <> 0",
        )
        == []
    )
    assert ask(path, "SELECT id FROM chunk WHERE state IN ('due', 'leased')") == []
    assert ask(path, "SELECT claim FROM attempt WHERE outcome IS NULL") == []
