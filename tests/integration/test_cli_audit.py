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
from ledger.audit.pruning import prune_bodies
from ledger.engine import Database
from ledger.settings import load_settings
from tests.support.unguarded import tamper_file

REQUEST_GONE = ["DELETE FROM chunk WHERE request_id = :id", "DELETE FROM request WHERE id = :id"]
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
    assert "Rows of requests were held against 2 events." in told
    assert "MACs of what was ordered hold: 2 orders." in told
    assert "Compared with the published checkpoint." in told
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
    assert (record["orders"], record["order_keys"], record["request_events"]) == (3, "own", 3)
    assert record["compared"] == {"published": True, "kept": 1}


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


def test_a_cut_log_without_its_published_checkpoint_is_not_called_unchanged(home):
    run("seal", "--once")
    (key,) = lines("keys", "show")
    note = home / "note"
    note.write_text(run("audit", "checkpoint").stdout)
    run("submit", "--user-id", "u2")
    run("seal", "--once")
    published = next(home.rglob("audit/checkpoint"))
    whole = published.read_text()
    (row,) = [json.loads(line) for line in lines("list", "-o", "jsonl", "--limit", "1")]
    statements = [
        *REQUEST_GONE,
        "DELETE FROM event_body WHERE event IN (SELECT event FROM leaf WHERE idx >= 3)",
        "DELETE FROM event WHERE id IN (SELECT event FROM leaf WHERE idx >= 3)",
        "DELETE FROM leaf WHERE idx >= 3",
        "DELETE FROM checkpoint WHERE size > 3",
        "DELETE FROM unsealed",
    ]
    tamper_file(str(home / "expunge.db"), statements, {"id": row["id"]})
    assert "rolled_back" in run("audit", "verify", code=9).stdout
    published.unlink()

    told = run("audit", "verify").stdout
    assert "NOT COMPARED with any checkpoint from outside of the ledger: none is in" in told
    assert "or name one that was kept with --checkpoint" in told
    assert not told.endswith("Nothing was changed.\n")
    record = json.loads(run("audit", "verify", "--public-key", key, "-o", "json").stdout)
    assert record["compared"] == {"published": False, "kept": 0}

    told = run("audit", "verify", "--checkpoint", str(note)).stdout
    assert "Compared with no published checkpoint and 1 checkpoint that somebody kept." in told
    assert "NOT COMPARED" not in told
    note.write_text(whole)
    assert "rolled_back" in run("audit", "verify", "--checkpoint", str(note), code=9).stdout


def test_a_request_whose_row_was_changed_or_taken_away_is_named(home):
    run("seal", "--once")
    first, second = (
        json.loads(line)["id"] for line in run("list", "-o", "jsonl").stdout.splitlines()
    )
    database = str(home / "expunge.db")
    tamper_file(database, ["UPDATE request SET requested = 9 WHERE id = :id"], {"id": first})
    tamper_file(database, REQUEST_GONE, {"id": second})

    told = run("audit", "verify", code=9).stdout
    assert f"request_missing: Request {second} was accepted" in told
    assert f"request_differs: The row of request {first} says other" in told
    assert told.endswith("the requests named above are NOT what it says.\n")


def test_text_in_the_place_of_bytes_is_told_as_a_change_and_no_error_of_ours(home):
    run("seal", "--once")
    database = str(home / "expunge.db")
    tamper_file(database, ["UPDATE request SET header_mac = 'x'"], {})
    assert run("audit", "verify", code=9).stdout.count("order_changed: Request ") == 2
    for column in ("leaf SET hash", "event_body SET payload"):
        tamper_file(database, [f"UPDATE {column} = 'x'"], {})
        assert "run `expunge audit verify`" in run("audit", "export", code=9).stderr


def test_keys_of_another_installation_are_told_and_no_order_is_called_changed(home, monkeypatch):
    run("seal", "--once")
    (key,) = lines("keys", "show")
    monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(home / "others"))
    run("keys", "init")
    told = run("audit", "verify", "--public-key", key).stdout
    assert "NOT CHECKED: whether orders are what was ordered. The keys in EXPUNGE_KEYS_DIR" in told
    assert "order_changed" not in told
    record = json.loads(run("audit", "verify", "--public-key", key, "-o", "json").stdout)
    assert (record["good"], record["orders"], record["order_keys"]) == (True, None, "foreign")


def test_a_pruning_is_exported_once_it_is_signed(home):
    run("seal", "--once")
    settings = load_settings()
    with closing(Database(settings.ledger_url)) as database:
        prune_bodies(database, below=2, principal="op", reason="retention")
    assert "run `expunge seal --once` first" in run("audit", "export", code=9).stderr
    run("seal", "--once")
    assert '"pruned_below":2' in run("audit", "export").stdout


@pytest.mark.parametrize("key", ["x", "a+b+c", "a+00000000+====", "a+0+AQ=="])
def test_the_second_verifier_says_what_is_wrong_with_a_key(home, key):
    command = [sys.executable, VERIFIER, home / "expunge.db", key]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"no Ed25519 key, give a whole line of `expunge keys show`: {key}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_second_verifier_says_where_a_file_was_cut(home):
    run("seal", "--once")
    (key,) = lines("keys", "show")
    run("audit", "export", str(home / "export.jsonl"))
    whole = (home / "export.jsonl").read_bytes()
    line = whole.index(b"\n") + 30
    for content, says in (
        (whole[:line], "line 2 was cut or changed: it is no JSON"),
        (whole[:line] + b"\xff", "no UTF-8"),
        (b"", "does not begin as an export does"),
    ):
        (home / "export.jsonl").write_bytes(content)
        command = [sys.executable, VERIFIER, home / "export.jsonl", key]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, "")
        assert says in done.stdout
        assert done.stdout.endswith("NOT good\n")


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
