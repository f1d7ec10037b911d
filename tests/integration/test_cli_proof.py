"""Lookups, epochs and restores, as people type them."""

import json

from ledger import Keys

WHY = ("--reason", "test-1")


def test_names_are_found_by_their_lines_and_only_from_files(expunge, erased):
    found = expunge("find", "--user", "-", "-o", "jsonl", stdin="bob\nalice\n")
    first, second = map(json.loads, found.stdout.splitlines())
    assert (first["line"], first["answer"]) == (1, "not_known")
    assert (second["answer"], second["request"]) == ("erased", erased)
    assert "alice" not in found.stdout + found.stderr
    gaps = expunge("find", "--user", "-", "-o", "jsonl", stdin="\nbob\n\nalice\n").stdout
    assert [json.loads(line)["line"] for line in gaps.splitlines()] == [2, 4]
    assert expunge("find", "--user", "alice").exit_code == 2
    assert expunge("find").exit_code == 2


def test_what_makes_names_unknown_by_mistake_is_told(expunge, erased):
    padded = expunge("find", "--user", "-", stdin="alice \nalice\n bob\n")
    assert padded.exit_code == 0
    assert "2 lines with blanks before or after the name" in padded.stderr
    assert "no name in it" in expunge("find", "--user", "-", stdin="\n").stderr
    assert "blanks" not in expunge("find", "--user", "-", stdin="alice\n").stderr


def test_other_keys_than_the_ledgers_find_nobody_missing(expunge, erased, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(tmp_path / "others"))
    Keys.create(tmp_path / "others")
    found = expunge("find", "--user", "-", stdin="alice\n")
    assert (found.exit_code != 0, found.stdout) == (True, "")
    assert "not those of this ledger" in found.stderr
    checks = json.loads(expunge("doctor", "--offline", "-o", "json").stdout)["findings"]
    assert {one["check"]: one["grade"] for one in checks}["keys of the ledger"] == "fail"


def test_epochs_are_begun_listed_and_destroyed(expunge, erased, ledger):
    begun = expunge("keys", "new-epoch", *WHY)
    assert (begun.exit_code, "Epoch 2" in begun.stderr) == (0, True)
    named = expunge("keys", "destroy-epoch", "1", *WHY)
    assert (named.exit_code, "still have their names" in named.stderr) == (6, True)
    ledger.scrub(redrive_days=0, row_days=0)
    assert expunge("keys", "destroy-epoch", "1", *WHY).exit_code == 0
    assert expunge("keys", "destroy-epoch", "1", *WHY).exit_code == 5
    epochs = [
        json.loads(line) for line in expunge("keys", "epochs", "-o", "jsonl").stdout.splitlines()
    ]
    assert [(one["no"], one["key"], one["in_force"]) for one in epochs] == [
        (1, False, False),
        (2, True, True),
    ]
    found = expunge("find", "--user", "-", stdin="alice\n")
    assert "not_known" in found.stdout
    assert "epochs are not here any more: 1" in found.stderr


def test_what_was_erased_since_a_backup_is_ordered_again(expunge, erased, ledger, carry_out):
    since = ("--since", "2020-01-01T00:00:00+00:00")
    shown = expunge("reapply", *since, "--dry-run")
    assert (shown.exit_code, "Would order again: 1 request." in shown.stderr) == (0, True)
    made = expunge("reapply", *since, "-o", "id")
    assert made.exit_code == 0
    carry_out()
    assert ledger.status(made.stdout.strip()).follows == erased
    ledger.scrub(redrive_days=0, row_days=0)
    scrubbed = expunge("reapply", *since, "-o", "json")
    assert {one["left_out"] for one in json.loads(scrubbed.stdout)} == {"scrubbed"}
    assert (scrubbed.exit_code, "--users" in scrubbed.stderr) == (3, True)
    told = expunge("reapply", *since, "--users", "-", "-o", "jsonl", stdin="alice\n")
    assert {json.loads(line)["answer"] for line in told.stdout.splitlines()} == {"erased"}
    none = expunge("reapply", *since, "--ids", "-", stdin="m1\n")
    assert (none.exit_code, "No scrubbed batch" in none.stderr) == (0, True)


def test_a_request_of_which_something_was_changed_is_named(expunge, erased, ledger):
    with ledger._database.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE request SET tampered = 1")
    listed = expunge("list", "tampered:true")
    assert erased in listed.stdout
    assert "tampered" in listed.stdout
    assert json.loads(expunge("status", erased, "-o", "json").stdout)["tampered"] is True
