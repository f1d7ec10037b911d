"""`expunge seal`, `audit …` and `keys …` as people type them."""

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from expunge.cli import app
from ledger.audit.exporting import export_lines
from tests.support.unguarded import tamper_file

VERIFIER = Path(__file__).parents[1] / "verify_audit_export.py"


def run(*arguments, code=0):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def home(tmp_path):
    run("db", "upgrade")
    run("keys", "init")
    run("submit", "--memory-id", "m1", "--memory-id", "m2")
    run("submit", "--user-id", "u1")
    return tmp_path


def lines(*arguments):
    return run(*arguments).stdout.splitlines()


def test_from_an_order_to_an_export_that_others_check(home):
    assert "Sealed 3 events; the log has 3." in run("seal", "--once").stderr
    told = run("audit", "verify").stdout
    assert "3 events hashed again, 3 of them signed" in told
    assert "MACs of what was ordered hold: 2 orders." in told
    assert told.endswith("Nothing was changed.\n")
    (key,) = lines("keys", "show")
    note = home / "note"
    note.write_text(run("audit", "checkpoint").stdout)
    run("submit", "--user-id", "u2")
    run("seal", "--once")
    run("audit", "export", str(home / "export.jsonl"))

    command = [sys.executable, VERIFIER, home / "export.jsonl", key, "--checkpoint", note]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "good\n")
    assert lines("audit", "export")[1:] == (home / "export.jsonl").read_text().splitlines()[1:]
    record = json.loads(
        run("audit", "verify", "--checkpoint", str(note), "--public-key", key, "-o", "json").stdout
    )
    assert (record["good"], record["leaves"], record["first_bad"]) == (True, 4, None)


def test_what_was_changed_is_named(home):
    run("seal", "--once")
    tamper_file(str(home / "expunge.db"), ["UPDATE request SET subject = 'another'"], {})
    tamper_file(
        str(home / "expunge.db"),
        ["DELETE FROM event_body WHERE event = (SELECT event FROM leaf WHERE idx = 1)"],
        {},
    )
    told = run("audit", "verify", code=9).stdout
    assert "body_missing: The body of leaf 1 is missing" in told
    assert "order_changed: Request " in told
    assert told.endswith("the first bad index is 1.\n")
    record = json.loads(run("audit", "verify", "-o", "json", code=9).stdout)
    kinds = [fault["kind"] for fault in record["faults"]]
    assert kinds == ["body_missing", "order_changed", "order_changed"]
    assert "another" not in told


def test_an_export_whose_connection_breaks_gives_no_line_twice(home, monkeypatch):
    run("seal", "--once")
    whole = lines("audit", "export")

    def breaking(conn):
        yield from itertools.islice(export_lines(conn), 2)
        broken = psycopg.OperationalError("gone")
        raise OperationalError("", {}, broken, connection_invalidated=True)

    monkeypatch.setattr("ledger.audit.exporting.export_lines", breaking)
    done = run("audit", "export", code=8)
    assert done.stdout.splitlines() == whole[:2]
    assert "run it again, whole" in done.stderr


def test_without_a_public_key_nothing_can_be_verified(home):
    assert "No public key is known" in run("audit", "verify", code=9).stderr
    assert "run `expunge seal`" in run("keys", "show", code=5).stderr
    assert "`expunge seal` puts it there" in run("audit", "checkpoint", code=5).stderr
    assert "run `expunge seal --once`" in run("audit", "export", code=9).stderr
    assert "no public key" in run("audit", "verify", "--public-key", "x", code=2).stderr


@pytest.mark.parametrize("text", ["", "hello\n", "a\n\nb\n"])
def test_a_file_that_is_no_checkpoint_is_a_wrong_file_and_no_sign_of_tampering(home, text):
    run("seal", "--once")
    (home / "note").write_text(text)
    told = run("audit", "verify", "--checkpoint", str(home / "note"), code=2).stderr
    assert "is no checkpoint; name a file with what `expunge audit checkpoint` printed" in told


def test_a_key_is_rotated_by_one_command(home):
    run("seal", "--once")
    (old,) = lines("keys", "show")
    (new,) = lines("keys", "rotate", "--reason", "yearly")
    assert lines("keys", "show") == [old, new]
    run("submit", "--user-id", "u3")
    run("seal", "--once")
    assert "Nothing was changed." in run("audit", "verify").stdout
    # The last checkpoint is the new key's alone.
    assert "checkpoint_untrusted" in run("audit", "verify", "--public-key", old, code=9).stdout


def test_keys_of_the_sealer_go_where_they_are_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(tmp_path / "keys"))
    run("keys", "init", "--signing-dir", str(tmp_path / "signing"))
    kept = {path.name for path in (tmp_path / "keys").iterdir()}
    assert kept == {"order.key", "pseudonym.key", "subjects.1.key"}
    assert (tmp_path / "signing" / "signing.key").stat().st_mode & 0o777 == 0o600
    assert "already in" in run("keys", "init", code=2).stderr


def test_the_sealer_seals_until_it_is_told_to_end(home):
    sealer = subprocess.Popen(
        [sys.executable, "-m", "expunge", "seal"], env=dict(os.environ), stderr=subprocess.PIPE
    )
    try:
        until = time.monotonic() + 60
        with closing(sqlite3.connect(home / "expunge.db", timeout=30)) as conn:
            while not (size := sealed(conn)) and time.monotonic() < until:
                time.sleep(0.05)
            run("submit", "--user-id", "u4")
            while sealed(conn) == size and time.monotonic() < until:
                time.sleep(0.05)
            assert sealed(conn) == 4
            beats = conn.execute("SELECT role FROM heartbeat").fetchall()
            assert beats == [("sealer",)]
    finally:
        sealer.send_signal(signal.SIGTERM)
        said = sealer.communicate(timeout=60)[1]
    assert (sealer.returncode, said) == (0, b"")
    assert "Nothing was changed." in run("audit", "verify").stdout


def sealed(conn):
    return conn.execute("SELECT coalesce(max(size), 0) FROM checkpoint").fetchone()[0]
