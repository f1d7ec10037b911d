"""The log when files are damaged, lost or turned back, and when two seal at once."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from typer.testing import CliRunner

from expunge.cli import app
from ledger import Keys, Ledger, upgrade
from ledger.audit.faults import Kind
from ledger.audit.halting import RESTORED
from ledger.audit.notes import open_checkpoint
from ledger.engine import Database
from ledger.errors import RolledBackError
from ledger.schema import checkpoint, event, leaf
from tests.support.audit_log import AuditLog
from tests.support.ledger_world import make_order


class Service:
    """A ledger as an installation has it, and the commands that work on it."""

    def __init__(self, url, folder, monkeypatch):
        self.url = url
        self.folder = folder
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(folder / "keys"))
        monkeypatch.setenv("EXPUNGE_AUDIT_DIR", str(folder / "audit"))
        monkeypatch.setenv("MEMOS_API_KEY", "key")
        upgrade(url)
        self.use(url)

    def use(self, url):
        """Take another database for the ledger, as a restore does."""
        self.url = url
        self.monkeypatch.setenv("EXPUNGE_LEDGER_URL", url)
        self.database = Database(url)
        self.log = AuditLog(self.database, self.folder)

    def run(self, *arguments):
        return CliRunner().invoke(app, arguments)

    def order(self, *ids):
        with Ledger.open(self.url, keys=Keys.load(self.folder / "keys")) as ledger:
            ledger.register(projects={"shop": "acme"}, rates={"acme": 100.0}, decides=True)
            intake = ledger.begin(make_order(), chunk_size=10)
            intake.add(list(ids))
            return intake.finish().id

    def claim(self):
        with Ledger.open(self.url, keys=Keys.load(self.folder / "keys")) as ledger:
            time.sleep(0.05)  # the next slot of a ledger that was just opened
            return ledger.claim(worker="w", capacity=10, lead_s=0.5, lease_s=60).tasks

    def rows(self, table, key):
        return self.database.read(lambda conn: conn.execute(table.select().order_by(key)).all())


@pytest.fixture
def service(ledger_url, tmp_path, monkeypatch):
    service = Service(ledger_url, tmp_path, monkeypatch)
    yield service
    service.database.close()


def copied(service, name, tmp_path):
    """A copy of the ledger as it is now; gives its URL."""
    service.database.close()
    if service.database.is_sqlite:
        path = Path(service.database.engine.url.database)
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(path, tmp_path / f"{name}.db")
        return f"sqlite:///{tmp_path / f'{name}.db'}"
    parsed = make_url(service.url)
    engine = create_engine(parsed.set(database="postgres"), isolation_level="AUTOCOMMIT")
    copy = f"{parsed.database}_{name}"
    with engine.connect() as conn:
        conn.exec_driver_sql(f'CREATE DATABASE "{copy}" TEMPLATE "{parsed.database}"')
    engine.dispose()
    return parsed.set(database=copy).render_as_string(hide_password=False)


@pytest.mark.fault("F44", "F37")
def test_an_older_copy_of_the_ledger_is_refused_until_an_operator_opens_a_new_origin(
    service, tmp_path
):
    first = service.order("m1", "m2")
    service.log.grow(3)
    older = copied(service, "older", tmp_path)
    service.use(service.url)
    lost = service.order("m3")
    service.log.grow(4)
    notes = [*service.log.kept]

    service.database.close()
    service.use(older)
    worker = service.run("worker")
    assert (worker.exit_code, "expunge audit new-origin" in worker.stderr) == (9, True)
    sealer = service.run("seal", "--once")
    assert (sealer.exit_code, "older than what was published" in sealer.stderr) == (9, True)
    assert service.log.kinds(*notes) == {Kind.ROLLED_BACK}
    assert service.claim() == ()
    with Ledger.open(service.url, keys=Keys.load(service.folder / "keys")) as ledger:
        assert {pause.reason for pause in ledger.pauses()} == {RESTORED}

    opened = service.run("audit", "new-origin", "--reason", "restored")
    assert opened.exit_code == 0, opened.stderr
    assert service.run("seal", "--once").exit_code == 0
    assert service.run("resume", "--account", "acme").exit_code == 0
    assert [task.request_id for task in service.claim()] == [first]
    service.log.grow(5)
    assert service.log.verify().good
    # What was signed under the old name can no longer come out, and is told.
    assert service.log.kinds(notes[-1]) == {Kind.FORKED}
    assert lost not in {row.request for row in service.rows(event, event.c.id)}
    roots: dict[tuple[str, int], bytes] = {}
    for note in [*notes, *(row.note for row in service.rows(checkpoint, checkpoint.c.no))]:
        signed = open_checkpoint(note, service.log.published.keys())
        assert roots.setdefault((signed.origin, signed.size), signed.root) == signed.root


@pytest.mark.fault("F37")
def test_a_ledger_that_lost_its_wal_is_refused(tmp_path, monkeypatch):
    service = Service(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, monkeypatch)
    path = tmp_path / "ledger.db"
    service.log.grow(3)
    with closing(sqlite3.connect(path)) as keeper:  # as long as it is open, the WAL stays
        keeper.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        keeper.execute("PRAGMA wal_autocheckpoint = 0")
        service.log.grow(5)
        service.database.close()
        shutil.copy(path, tmp_path / "without_wal.db")
    (tmp_path / "without_wal.db").replace(path)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)

    service.use(service.url)
    for command in (["worker"], ["seal", "--once"]):
        result = service.run(*command)
        assert result.exit_code == 9
        assert "4 sealed events, and the last checkpoint says 9" in result.stderr
    found = service.run("doctor", "--offline", "-o", "jsonl").stdout
    assert "The ledger is older than what was published" in found
    verified = service.run("audit", "verify")
    assert (verified.exit_code, "first bad index is 4" in verified.stdout) == (9, True)


def flip(path, needle):
    """Turn one bit of a file over, where a text stands in it."""
    raw = bytearray(path.read_bytes())
    at = raw.index(needle) + len(needle) - 1
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.fault("F38")
def test_a_bit_that_flipped_is_found(tmp_path, monkeypatch):
    service = Service(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, monkeypatch)
    path = tmp_path / "ledger.db"
    service.order("memory-a1", "memory-a2")
    service.log.grow(300)
    place = next(
        row.idx
        for row in service.rows(leaf, leaf.c.idx)
        if service.log.payload(row.event).get("project") == "p170"
    )
    service.database.close()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    flip(path, b'"project":"p170')
    flip(path, b'"memory-a1')

    service.use(service.url)
    verdict = service.log.verify()
    assert [(fault.kind, fault.index) for fault in verdict.faults] == [(Kind.BODY_DIFFERS, place)]
    assert service.claim() == ()  # its MAC does not hold
    types = {row.type for row in service.rows(event, event.c.id)}
    assert "order.tampered" in types
    assert service.run("audit", "verify").exit_code == 9


@pytest.mark.fault("F93", "F47")
def test_two_sealers_at_once_make_one_log(service):
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "expunge", "seal"]
    service.log.grow(1)
    sealers = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        until = time.monotonic() + 30
        count = 2
        while time.monotonic() < until and len(service.rows(checkpoint, checkpoint.c.no)) < 4:
            service.log.add(20)
            count += 20
            time.sleep(0.1)
        # One is killed in its work: the other one goes on when the lease has lapsed.
        sealers[0].kill()
        sealers[0].wait()
        while time.monotonic() < until and len(service.rows(leaf, leaf.c.idx)) < count:
            time.sleep(0.1)
        assert sealers[1].poll() is None
    finally:
        for sealer in sealers:
            sealer.terminate()
        said = [sealer.communicate(timeout=20)[1] for sealer in sealers]

    assert sealers[1].returncode == 0, said
    assert [row.idx for row in service.rows(leaf, leaf.c.idx)] == list(range(count))
    assert service.log.verify(*service.log.kept).good


def test_a_newer_ledger_is_no_fault(service):
    """The published checkpoint is behind what is sealed for a moment, at each round."""
    service.log.grow(2)
    note = service.log.note()
    service.log.grow(2)
    service.log.published.publish(note)
    with Ledger.open(service.url, keys=Keys.load(service.folder / "keys")) as ledger:
        ledger.require_published(service.folder / "audit")
    service.log.grow(1)
    assert service.log.verify(note).good


def test_another_ledger_is_refused(service, tmp_path):
    service.log.grow(2)
    upgrade(f"sqlite:///{tmp_path / 'other.db'}")
    with (
        closing(Database(f"sqlite:///{tmp_path / 'other.db'}")) as other,
        pytest.raises(RolledBackError, match="another ledger, or an older copy"),
    ):
        AuditLog(other, tmp_path).seal()
