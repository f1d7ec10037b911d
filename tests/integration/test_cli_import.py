"""`expunge import`: formats, kinds, looking before leaping, and going on after it broke off."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.errors import LedgerError
from producer import Producer
from producer.files import importing, orders

CANARY = "canary-3e7a"


def rows(settings, query):
    # Also while another process makes the ledger's tables grow.
    with closing(sqlite3.connect(settings.home / "expunge.db", timeout=10)) as database:
        return database.execute(query).fetchall()


def ordered(settings):
    """Every id and every purge that workers would carry out, and how often."""
    found = rows(
        settings,
        "SELECT r.kind, r.subject, c.ids FROM request r JOIN chunk c ON c.request_id = r.id "
        "WHERE r.state NOT IN ('cancelled', 'receiving')",
    )
    return Counter(
        what
        for kind, subject, ids in found
        for what in (json.loads(ids) if kind == "memories" else [(kind, subject)])
    )


def one(result, code=0):
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return json.loads(result.stdout)


# -- formats and kinds ----------------------------------------------------------------------------


def test_a_parquet_file_is_imported_by_its_suffix_and_through_stdin(expunge, settings, tmp_path):
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"mem": ["007", None, "b"], "who": ["u", "u", "v"]}), path)
    options = ("--map", "memory_id=mem", "--map", "user_id=who", "-o", "json")
    result = expunge("import", path, *options)
    assert (one(result, 3)["requests"], one(result, 3)["rejected"]) == (2, 1)
    assert "Row 2 was not taken" in result.stderr
    assert ordered(settings) == Counter(["007", "b"])
    piped = subprocess.run(
        [sys.executable, "-m", "expunge", "import", "-", "--format", "parquet", *options],
        input=path.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert piped.returncode == 3
    assert json.loads(piped.stdout)["requests"] == 2


@pytest.mark.parametrize("kind", ["user", "agent"])
def test_a_file_of_names_becomes_purges_when_the_kind_says_so(expunge, settings, kind):
    report = one(expunge("import", "-", "--kind", kind, "-o", "json", stdin="x\ny\nx\n"))
    assert (report["requests"], report["requested"], report["unique"]) == (2, 3, 2)
    assert ordered(settings) == Counter([(kind, "x"), (kind, "y")])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--format", "jsonl", "--kind", "user"], "--kind"),
        (["--kind", "memory"], "memories"),
        (["--map", "user_id=x"], "--map"),
        (["--kind", "user", "--user", "u"], "leave out the user"),
        (["--max-errors", "few"], "--max-errors"),
        (["--format", "parquet"], "no Parquet file"),
    ],
)
def test_options_that_do_not_go_together_are_exit_code_2(expunge, settings, args, told):
    result = expunge("import", "-", *args, stdin="a\n")
    assert result.exit_code == 2
    assert told in result.stderr
    assert rows(settings, "SELECT id FROM request") == []


# -- looking before leaping -----------------------------------------------------------------------


def test_a_dry_run_tells_what_it_would_be_and_needs_no_ledger(expunge, settings, tmp_path):
    (settings.home / "expunge.db").unlink()
    (tmp_path / "ids").write_text("a\nb\na\n \n")
    result = expunge("import", tmp_path / "ids", "--dry-run", "-o", "json")
    assert one(result, 3) == {
        "dry_run": True,
        "requests": 1,
        "requested": 3,
        "unique": 2,
        "rejected": 1,
        "calls": 1,
        "readback_calls_least": 3,
        "readback_calls_most": 6,
        "seconds": 0.134,
        "lanes": {"erasure": 0, "bulk": 1},
        "first_due_at": None,
        "held": 0,
        "memories_now": None,
        "memories_note": "not_looked",
    }
    assert expunge("import", "-", "--dry-run", stdin="a\n").exit_code == 0
    assert not (settings.home / "expunge.db").exists()
    assert not (settings.home / "imports").exists()


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_more_errors_than_allowed_is_exit_code_10_and_nothing_is_handed_in(
    expunge, settings, tmp_path, extra
):
    rejects = tmp_path / "rejects"
    args = ("import", "-", "--max-errors", "1", "--rejects", rejects, *extra)
    result = expunge(*args, stdin=f"a\n{CANARY}\x00\n \nb\n")
    assert (result.exit_code, result.stdout) == (10, "")
    assert "2 of 4" in result.stderr
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [2, 3]
    assert CANARY not in result.stderr + rejects.read_text()
    assert rows(settings, "SELECT id FROM request") == []


def test_as_many_errors_as_allowed_are_rejects_as_ever(expunge, settings, tmp_path):
    rejects = tmp_path / "rejects"
    args = ("import", "-", "--max-errors", "50%", "--rejects", rejects, "-o", "json")
    report = one(expunge(*args, stdin="a\n \n\x01\nb\n"), 3)
    assert (report["unique"], report["rejected"]) == (2, 2)
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [2, 3]


# -- going on -------------------------------------------------------------------------------------


def test_an_import_that_was_complete_is_not_repeated_by_resume(expunge, settings, tmp_path):
    path = tmp_path / "orders.jsonl"
    path.write_text('{"user_id": "u"}\n{}\n{"user_id": "v"}\n')
    rejects = tmp_path / "rejects"
    args = ("import", path, "--rejects", rejects, "-o", "json", "--resume")
    first = one(expunge(*args), 3)
    again = expunge(*args)
    assert {**one(again), "first_requests": first["first_requests"]} == first
    assert "nothing to do" in again.stderr
    assert json.loads(rejects.read_text())["line"] == 2
    assert ordered(settings) == Counter([("user", "u"), ("user", "v")])
    assert one(expunge("import", path, "-o", "json"), 3)["known"] == 0
    assert len(rows(settings, "SELECT id FROM request")) == 4


def test_another_option_makes_it_another_import(expunge, settings, tmp_path):
    path = tmp_path / "ids"
    path.write_text("a\n")
    for extra in ([], ["--reason", "gdpr-17"], ["--user", "u"], ["--kind", "user"]):
        assert expunge("import", path, "--resume", *extra).exit_code == 0
    assert len(rows(settings, "SELECT id FROM request")) == 4


def test_a_run_that_broke_off_is_named_and_resume_goes_on_with_it(
    expunge, settings, tmp_path, monkeypatch
):
    path = tmp_path / "ids"
    path.write_text("".join(f"m-{number}\n" for number in range(3_000)))
    with monkeypatch.context() as patch:
        patch.setattr(Producer, "delete_memories", interrupted)
        broken = expunge("import", path)
    assert broken.exit_code == 130
    assert "--resume" in broken.stderr
    resumed = expunge("import", path, "--resume", "-o", "json")
    assert one(resumed)["unique"] == 3_000
    assert "Going on" in resumed.stderr
    with monkeypatch.context() as patch:
        patch.setattr(Producer, "delete_memories", gone)
        stopped = expunge("import", path)
    assert stopped.exit_code == 8
    assert "--resume" in stopped.stderr
    anew = expunge("import", path)
    assert anew.exit_code == 0
    assert "broke off" in anew.stderr
    assert "--resume" in anew.stderr


def interrupted(self, ids, **terms):
    raise KeyboardInterrupt


def gone(self, ids, **terms):
    msg = "The ledger does not answer."
    raise LedgerError(msg)


def test_in_another_ledger_a_complete_run_counts_for_nothing(expunge, settings, tmp_path):
    (tmp_path / "orders.jsonl").write_text('{"user_id": "u"}\n')
    expunge("import", tmp_path / "orders.jsonl")
    (settings.home / "expunge.db").unlink()
    expunge("db", "upgrade")
    result = expunge("import", tmp_path / "orders.jsonl", "--resume", "-o", "json")
    assert one(result)["requests"] == 1
    assert "handed in again" in result.stderr
    assert ordered(settings) == Counter([("user", "u")])


def test_a_ledger_from_an_older_backup_gets_everything_whatever_it_knew_before(
    expunge, settings, tmp_path
):
    database = settings.home / "expunge.db"
    known = {"user_id": "u-old", "idempotency_key": "t-old"}
    one(expunge("import", "-", "--format", "jsonl", "-o", "json", stdin=json.dumps(known)))
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(database)) as kept, closing(sqlite3.connect(backup)) as copy:
        kept.backup(copy)
    path = tmp_path / "orders.jsonl"
    lines = [{"user_id": f"u-{n}", "idempotency_key": f"t-{n}"} for n in range(300)]
    path.write_text("\n".join(map(json.dumps, [*lines, known])))
    one(expunge("import", path, "-o", "json"))
    for suffix in ("-wal", "-shm"):
        database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
    backup.replace(database)
    result = expunge("import", path, "--resume", "-o", "json")
    assert (one(result)["requests"], one(result)["known"]) == (301, 1)
    assert "handed in again" in result.stderr
    assert len(rows(settings, "SELECT id FROM request")) == 301


def breaking_off(monkeypatch, *, after, first=lambda: None):
    """Give a patch with which the ledger takes so many batches, and then comes Ctrl-C."""
    real, left = Producer.hand_in_many, [after]

    def hand_in_many(self, requests):
        if left[0] == 0:
            first()
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, requests)

    monkeypatch.setattr(Producer, "hand_in_many", hand_in_many)


def many_users(tmp_path, *before):
    path = tmp_path / "orders.jsonl"
    lines = [json.dumps({"user_id": f"u-{number}"}) for number in range(1_000)]
    path.write_text("\n".join([*before, *lines]) + "\n")
    return path, Counter(("user", f"u-{number}") for number in range(1_000))


def test_a_second_start_that_recorded_nothing_takes_nothing_from_the_first(
    expunge, settings, tmp_path, monkeypatch
):
    path, expected = many_users(tmp_path)
    for after, recorded in ((3, 600), (0, 600)):
        with monkeypatch.context() as patch:
            breaking_off(patch, after=after)
            broken = expunge("import", path, "-o", "id")
        assert broken.exit_code == 130
        assert len(rows(settings, "SELECT id FROM request")) == recorded
    assert "broke off" in broken.stderr
    resumed = one(expunge("import", path, "--resume", "-o", "json"))
    assert ordered(settings) == expected
    assert (resumed["requests"], resumed["known"]) == (1_000, 600)
    # What was begun before all of it was handed in is settled by that.
    assert "nothing to do" in expunge("import", path, "--resume").stderr
    assert ordered(settings) == expected


def test_a_second_start_that_fails_while_the_first_runs_takes_nothing_from_it(
    expunge, settings, tmp_path, monkeypatch
):
    path, expected = many_users(tmp_path, "{bad")
    rejects = tmp_path / "rejects"
    seconds = []
    exists = Path.exists

    def second():
        with monkeypatch.context() as patch:
            patch.setattr(
                "producer.files.rejects.Path.exists", lambda path: path != rejects and exists(path)
            )
            seconds.append(expunge("import", path, "--rejects", rejects))

    with monkeypatch.context() as patch:
        breaking_off(patch, after=2, first=second)
        assert expunge("import", path, "--rejects", rejects).exit_code == 130
    assert [each.exit_code for each in seconds] == [2]
    one(expunge("import", path, "--rejects", rejects, "--resume", "-o", "json"), 3)
    assert ordered(settings) == expected


def test_the_warning_comes_before_the_new_import_is_begun(expunge, settings, tmp_path, monkeypatch):
    path, _ = many_users(tmp_path)
    with monkeypatch.context() as patch:
        breaking_off(patch, after=1)
        expunge("import", path)
    [before] = (settings.home / "imports").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("expunge.cli.importing._say", ctrl_c)
        expunge("import", path)
    assert list((settings.home / "imports").iterdir()) == [before]


def ctrl_c(_text):
    raise KeyboardInterrupt


def test_a_file_that_changes_after_it_was_checked_is_not_carried_out(
    expunge, settings, tmp_path, monkeypatch
):
    path = tmp_path / "ids.txt"
    whole = "".join(f"m-{number}\n" for number in range(3_000))
    path.write_text(whole)
    real = orders.read_rows

    def rewritten(*args):
        path.write_text("m-0\n\x01\nm-2\n")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(importing, "read_rows", rewritten)
        result = expunge("import", path, "--max-errors", "0", "-o", "json")
    assert result.exit_code == 2
    assert "changed while it was read" in result.stderr
    assert ordered(settings) == Counter()
    path.write_text(whole)
    assert one(expunge("import", path, "--resume", "-o", "json"))["unique"] == 3_000


def test_under_an_idempotency_key_resume_needs_no_journal(expunge, settings, tmp_path):
    args = ("import", "-", "--idempotency-key", "k", "--resume", "-o", "json")
    assert one(expunge(*args, stdin="a\n"))["known"] == 0
    assert one(expunge(*args, stdin="a\n"))["known"] == 1
    assert not (settings.home / "imports").exists()


def test_without_a_place_for_the_journal_only_resume_is_refused(expunge, settings):
    (settings.home / "imports").write_text("a file where the folder would be")
    result = expunge("import", "-", stdin="a\n")
    assert result.exit_code == 0
    assert "--resume cannot" in result.stderr
    refused = expunge("import", "-", "--resume", stdin="b\n")
    assert refused.exit_code == 2
    assert ordered(settings) == Counter(["a"])


# -- killed ---------------------------------------------------------------------------------------

MANY = 3_000
KILLED: dict[str, tuple[str, str, list[str], list[Any]]] = {
    "plain": (
        "ids.txt",
        "".join(f"m-{number}\n" for number in range(60_000)),
        [],
        [f"m-{number}" for number in range(60_000)],
    ),
    "jsonl": (
        "orders.jsonl",
        "".join(json.dumps({"user_id": f"u-{number}"}) + "\n" for number in range(MANY)),
        [],
        [("user", f"u-{number}") for number in range(MANY)],
    ),
    "csv by user": (
        "ids.csv",
        "memory_id,user\n" + "".join(f"m-{n},u-{n % MANY}\n" for n in range(2 * MANY)),
        ["--map", "user_id=user"],
        [f"m-{number}" for number in range(2 * MANY)],
    ),
}


def break_off(settings, path, args, number, *, after):
    """End a real import by a signal as soon as so many chunks are in the ledger."""
    command = [sys.executable, "-m", "expunge", "import", str(path), *args]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while rows(settings, "SELECT count(*) FROM chunk")[0][0] < after:
            assert child.poll() is None
            assert time.monotonic() < deadline
        os.kill(child.pid, number)
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    return child.returncode, errors.decode()


@pytest.mark.parametrize("name", KILLED)
def test_killed_twice_and_resumed_everything_is_ordered_once(
    expunge, settings, tmp_path, monkeypatch, name
):
    monkeypatch.setenv("EXPUNGE_CHUNK_SIZE", "10")
    file, text, args, expected = KILLED[name]
    path = tmp_path / file
    path.write_text(text)
    for after in (400, 900):
        code, _ = break_off(settings, path, [*args, "--resume"], signal.SIGKILL, after=after)
        assert code == -signal.SIGKILL
        assert ordered(settings) < Counter(expected)
    report = one(expunge("import", path, *args, "--resume", "-o", "json"))
    assert ordered(settings) == Counter(expected)
    assert report["unique"] == len(expected)
    assert report["requests"] == len(rows(settings, "SELECT id FROM request"))


def test_ctrl_c_ends_with_130_and_names_the_way_on(expunge, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_CHUNK_SIZE", "10")
    file, text, _, expected = KILLED["plain"]
    path = tmp_path / file
    path.write_text(text)
    code, errors = break_off(settings, path, [], signal.SIGINT, after=400)
    assert code == 130
    assert "--resume" in errors
    assert "m-1" not in errors
    one(expunge("import", path, "--resume", "-o", "json"))
    assert ordered(settings) == Counter(expected)
    assert [state for (state,) in rows(settings, "SELECT state FROM request")] == ["open"]


@pytest.mark.parametrize(("command", "lower"), [("import", 10), ("list", 0)])
def test_an_import_gives_way_to_others_and_no_other_command_does(command, lower):
    code = (
        "import atexit, os, sys; atexit.register(lambda: print('nice', os.nice(0)));"
        f"sys.argv = ['expunge', '{command}', '--help'];"
        "from expunge.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"nice {min(19, os.nice(0) + lower)}"
