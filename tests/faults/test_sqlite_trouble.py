"""SQLite: locked by others, full, read-only. Nothing leaves unrecorded, and work goes on after."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from sqlalchemy import text

from ledger import Keys, Kind, Ledger, Order
from ledger import engine as ledger_engine
from ledger.engine import Database
from ledger.errors import LedgerError
from ledger.migrate import upgrade
from tests.support.stack import Stack, until
from tests.support.tight_disk import tight_disk

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
ORDER = Order(project="default", kind=Kind.MEMORIES)
_MIB = 1 << 20

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_another_process(path):
    """Hold the write lock until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.stdin.close()
        holder.wait(10)


@contextlib.contextmanager
def a_ledger(path):
    with Ledger.open(f"sqlite:///{path}", keys=KEYS) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 1_000})
        yield ledger


@pytest.fixture
def path(tmp_path):
    upgrade(f"sqlite:///{tmp_path / 'ledger.db'}")
    return tmp_path / "ledger.db"


@pytest.fixture
def short_wait(monkeypatch):
    monkeypatch.setattr(ledger_engine, "_BUSY_MS", 300)


def submit(ledger, count=20, name="m"):
    intake = ledger.begin(ORDER, chunk_size=10)
    intake.add(f"{name}{number}" for number in range(count))
    return intake.finish()


def claim(ledger):
    return ledger.claim(worker="w", capacity=10, lead_s=0, lease_s=60)


def integrity(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


# -- locked by others -----------------------------------------------------------------------------


@pytest.mark.fault("F31")
@pytest.mark.usefixtures("short_wait")
def test_while_another_process_holds_the_lock_intake_and_claims_say_so_and_change_nothing(path):
    with a_ledger(path) as ledger:
        receipt = submit(ledger)
        with held_by_another_process(path):
            for act in (lambda: submit(ledger), lambda: claim(ledger)):
                with pytest.raises(LedgerError, match="Another process has held") as caught:
                    act()
                assert caught.value.cause == "SQLITE_BUSY"
            assert [view.id for view in ledger.list_requests()] == [receipt.id]  # reading goes on
        assert len(claim(ledger).tasks) == 2
        submit(ledger)
        assert len(ledger.list_requests()) == 2


@pytest.mark.slow
@pytest.mark.fault("F31")
@pytest.mark.timeout(180)
def test_a_lock_held_for_half_a_minute_stops_all_calls_and_loses_none(tmp_path):
    path = tmp_path / "ledger.db"
    with Stack(tmp_path, f"sqlite:///{path}", rate=50) as stack:
        seeded = stack.control.seed(users=10, memories=60, seed=31)
        stack.submit(seeded.memory_ids, chunk_size=2, verify="none")
        stack.start_worker()
        stack.wait_for_calls(20, seconds=60)
        with held_by_another_process(path):
            # What was booked before departs within a second and a bit.
            time.sleep(2)
            calls = len(stack.control.journal())
            time.sleep(28)
            assert len(stack.control.journal()) == calls
            named = stack.scalar("SELECT count(*) FROM attempt")
            assert calls <= named
        stack.wait_for_end(seconds=60)
        stack.assert_truth(seeded, ordered=seeded.memory_ids)
        stack.assert_within_rate()


@pytest.mark.fault("F32")
def test_a_transaction_that_read_before_it_writes_is_never_refused_for_a_stale_snapshot(path):
    """What SQLite refuses at once when a plain transaction does it, none of ours ever sees."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as plain:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as other:
            plain.execute("BEGIN")
            plain.execute("SELECT * FROM lease").fetchall()
            other.execute("INSERT INTO lease VALUES ('a', 'b', 0, 0)")
            with pytest.raises(sqlite3.OperationalError) as caught:
                plain.execute("UPDATE lease SET token = 1")
        assert caught.value.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"
        plain.execute("ROLLBACK")
    turns = 200

    def read_then_write(conn):
        token = conn.execute(text("SELECT token FROM lease WHERE name = 'a'")).scalar_one()
        conn.execute(text("UPDATE lease SET token = :next"), {"next": token + 1})

    def hammer(errors):
        with closing(Database(f"sqlite:///{path}")) as database:
            try:
                for _ in range(turns):
                    database.write(read_then_write)
            except LedgerError as error:
                errors.append(error)

    errors: list[LedgerError] = []
    threads = [threading.Thread(target=hammer, args=(errors,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT token FROM lease").fetchone() == (3 * turns,)


# -- full -----------------------------------------------------------------------------------------


@pytest.mark.fault("F33")
def test_a_full_disk_stops_what_writes_and_nothing_else_until_there_is_room(tmp_path):
    with tight_disk(tmp_path / "disk", size=_MIB) as disk:
        path = disk.folder / "ledger.db"
        upgrade(f"sqlite:///{path}")
        with a_ledger(path) as ledger:
            accepted = [submit(ledger).id]
            disk.fill()
            for number in range(1_000):
                try:
                    accepted.append(submit(ledger, name=f"{number}/").id)
                except LedgerError as error:
                    said = error
                    break
            else:
                pytest.fail("the disk did not get full")
            assert said.cause == "SQLITE_FULL"
            assert "disk of the ledger is full" in str(said)
            with pytest.raises(LedgerError):
                claim(ledger)
            # Reading goes on, and of what was refused there is nothing.
            assert sorted(view.id for view in ledger.list_requests()) == sorted(accepted)
            disk.make_room()
            assert claim(ledger).tasks
            accepted.append(submit(ledger).id)
            assert sorted(view.id for view in ledger.list_requests()) == sorted(accepted)
        assert integrity(path) == "ok"


@pytest.mark.slow
@pytest.mark.fault("F33")
def test_a_worker_on_a_full_disk_makes_no_calls_and_goes_on_when_there_is_room(tmp_path):
    with tight_disk(tmp_path / "disk", size=6 * _MIB) as disk:
        path = disk.folder / "ledger.db"
        with Stack(tmp_path, f"sqlite:///{path}", rate=100, latency_ms=5) as stack:
            seeded = stack.control.seed(users=10, memories=100, seed=33)
            stack.submit(seeded.memory_ids, chunk_size=5, verify="none")
            worker = stack.start_worker()
            stack.wait_for_calls(10, seconds=60)
            disk.fill()
            until(
                lambda: any(
                    line["event"] == "claim_failed" and line["cause"] == "SQLITE_FULL"
                    for line in worker.log_lines()
                ),
                seconds=10,
                why="the worker to say that the disk is full",
            )
            time.sleep(1.3)  # what was booked before departs
            calls = len(stack.control.journal())
            assert stack.scalar("SELECT count(*) FROM attempt") >= calls
            time.sleep(1)
            assert len(stack.control.journal()) == calls
            disk.make_room()
            stack.wait_for_end(seconds=40)
            stack.assert_truth(seeded, ordered=seeded.memory_ids)
            stack.assert_within_rate()
        assert integrity(path) == "ok"


# -- read-only ------------------------------------------------------------------------------------


@pytest.mark.fault("F34")
def test_a_read_only_file_system_lets_look_but_not_write_and_says_why(tmp_path):
    with tight_disk(tmp_path / "disk", size=4 * _MIB) as disk:
        path = disk.folder / "ledger.db"
        upgrade(f"sqlite:///{path}")
        with a_ledger(path) as ledger:
            receipt = submit(ledger)
            # As after a crash: the log is still beside it.
            names = ("ledger.db", "ledger.db-wal", "ledger.db-shm")
            files = {name: (disk.folder / name).read_bytes() for name in names}
        for name, content in files.items():
            (disk.folder / name).write_bytes(content)
        disk.set_read_only(True)
        with Ledger.open(f"sqlite:///{path}", keys=KEYS) as ledger:
            assert [view.id for view in ledger.list_requests()] == [receipt.id]
            for act in (lambda: submit(ledger), lambda: claim(ledger)):
                with pytest.raises(LedgerError, match="read-only") as caught:
                    act()
                assert caught.value.cause == "SQLITE_READONLY"
            assert ledger.status(receipt.id).counts.pending == 20
        disk.set_read_only(False)
        with a_ledger(path) as ledger:
            assert len(claim(ledger).tasks) == 2
        assert integrity(path) == "ok"


@pytest.mark.fault("F34")
def test_a_ledger_that_cannot_even_be_opened_says_what_may_be_wrong(tmp_path):
    with tight_disk(tmp_path / "disk", size=4 * _MIB) as disk:
        path = disk.folder / "ledger.db"
        upgrade(f"sqlite:///{path}")
        disk.set_read_only(True)
        with pytest.raises(LedgerError, match="read-only"):
            Ledger.open(f"sqlite:///{path}", keys=KEYS)
