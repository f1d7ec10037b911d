"""The disk says EIO once when a commit is made safe on it: the process ends, and never goes on."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from ledger import Keys, Ledger
from ledger.migrate import upgrade
from tests.support.missing import missing_part
from tests.support.stack import Stack, until

pytestmark = pytest.mark.fault("F35")

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
_SYNC = "fsync,fdatasync"

_WRITER = """
import os, sys
from ledger import Keys, Kind, Ledger, Order
from ledger.errors import DiskError, LedgerError
keys = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
ledger = Ledger.open(sys.argv[1], keys=keys)
ledger.register(projects={"default": "default"}, rates={"default": 1000})
def submit(n):
    intake = ledger.begin(Order(project="default", kind=Kind.MEMORIES), chunk_size=10)
    intake.add([f"{n}/1", f"{n}/2"])
    return intake.finish().id
for n in range(1000):
    try:
        print("accepted", submit(n), flush=True)
    except DiskError as error:
        print("failed", error.cause, flush=True)
        break
for act in (lambda: submit("again"), lambda: ledger.claim(
        worker="w", capacity=9, lead_s=0, lease_s=9)):
    try:
        act()
    except DiskError as error:
        print("refused", error.cause, flush=True)
print("requests", ledger.count_requests(), flush=True)
os._exit(74)
"""


def strace():
    found = shutil.which("strace")
    if found is None:
        missing_part("Needs `strace` (Debian: apt install strace) to make the disk fail.")
    return found


@pytest.mark.parametrize(
    "when", [12, *(pytest.param(n, marks=pytest.mark.slow) for n in (13, 14, 15))]
)
def test_after_a_failed_sync_a_process_writes_nothing_more_and_a_restart_shows_the_truth(
    tmp_path, when
):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    upgrade(url)
    calls = tmp_path / "calls"
    command = [strace(), "-f", "-qq", "-o", str(calls), "-e", f"trace={_SYNC}"]
    command += ["-e", f"inject={_SYNC}:error=EIO:when={when}", sys.executable, "-c", _WRITER, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "ptrace" in done.stderr.lower() and not done.stdout:
        missing_part("strace may not trace here (ptrace is not permitted).")
    said = [line.split() for line in done.stdout.splitlines()]
    accepted = [line[1] for line in said if line[0] == "accepted"]
    assert accepted, done.stderr
    assert [line for line in said if line[0] != "accepted"] == [
        ["failed", "SQLITE_IOERR_FSYNC"],
        ["refused", "SQLITE_IOERR_FSYNC"],
        ["refused", "SQLITE_IOERR_FSYNC"],
        ["requests", str(len(accepted))],
    ]
    # Never asked again to make safe what may be lost.
    assert "EIO" in calls.read_text().splitlines()[-1]
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Ledger.open(url, keys=KEYS) as ledger:
        views = {view.id: view for view in ledger.list_requests(limit=1_000)}
    # What was told to be accepted is there; what failed is there whole, or not at all.
    assert set(accepted) <= set(views)
    assert len(views) - len(accepted) in (0, 1)
    assert all(view.counts.pending == 2 for view in views.values())


@pytest.mark.slow
def test_a_worker_whose_disk_failed_is_started_anew_and_nothing_is_lost(tmp_path):
    strace()
    with Stack(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}", rate=100) as stack:
        seeded = stack.control.seed(users=10, memories=100, seed=35)
        stack.submit(seeded.memory_ids, chunk_size=5, verify="none")
        worker = stack.start_worker()
        stack.wait_for_calls(10, seconds=60)
        celery = worker.part("worker.celery_main")
        child = drain_of(stack, worker, celery)
        with failing_once(child):
            until(lambda: child not in worker.members(), seconds=20, why="the child to end")
        assert any(line["event"] == "disk_failed" for line in worker.log_lines())
        stack.wait_for_end(seconds=60)
        assert worker.part("worker.celery_main") == celery
        stack.assert_truth(seeded, ordered=seeded.memory_ids)
        stack.assert_within_rate()


def drain_of(stack, worker, celery):
    """Give the child of Celery that drains: its name holds its pid."""
    names = stack.rows("SELECT DISTINCT worker FROM attempt")
    pids = {int(name.split("-")[1]) for (name,) in names}
    (child,) = pids & set(worker.children(celery))
    return child


@contextmanager
def failing_once(pid):
    """Let the next sync of a process fail, by strace that comes to it."""
    command = [strace(), "-f", "-qq", "-p", str(pid), "-e", f"trace={_SYNC}"]
    command += ["-e", f"inject={_SYNC}:error=EIO:when=1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracing:
        try:
            yield
        except AssertionError:
            said = tracing.stderr.read() if tracing.poll() and tracing.stderr else b""
            if b"ptrace" in said:
                missing_part("strace may not trace here (ptrace is not permitted).")
            raise
        finally:
            tracing.terminate()
