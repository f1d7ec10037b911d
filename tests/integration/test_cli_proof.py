"""Lookups, epochs and restores, as people type them."""

import json

import pytest

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


def test_a_host_without_the_newest_pseudonym_key_hands_nothing_in(expunge, erased, settings):
    (settings.keys_dir / "subjects.1.key").unlink()
    told = expunge("submit", "--user-id", "-", stdin="bob\n")
    assert (told.exit_code, "subjects.1.key is not in EXPUNGE_KEYS_DIR" in told.stderr) == (2, True)
    listed = expunge("list", "--count")
    assert (listed.exit_code, listed.stdout.strip()) == (0, "1")
    checks = json.loads(expunge("doctor", "--offline", "-o", "json").stdout)["findings"]
    assert {one["check"]: one["grade"] for one in checks}["pseudonym key"] == "fail"
    assert (
        "destroyed, or not in EXPUNGE_KEYS_DIR: 1."
        in expunge("find", "--user", "-", stdin="a\n").stderr
    )
    assert expunge("keys", "new-epoch", *WHY).exit_code == 0
    assert expunge("submit", "--user-id", "-", stdin="bob\n").exit_code == 0


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
    assert "EXPUNGE_KEYS_DIR: 1." in found.stderr


SINCE = ("--since", "2020-01-01T00:00:00+00:00")


def test_what_was_erased_since_a_backup_is_ordered_again_once(expunge, erased, ledger, carry_out):
    shown = expunge("reapply", *SINCE, "--dry-run")
    assert (shown.exit_code, "Would order again: 1 request." in shown.stderr) == (0, True)
    made = expunge("reapply", *SINCE, "-o", "id")
    assert made.exit_code == 0
    carry_out()
    assert ledger.status(made.stdout.strip()).follows == erased
    for _ in range(2):
        known = expunge("reapply", *SINCE, "-o", "json")
        assert [(one["left_out"], one["id"]) for one in json.loads(known.stdout)] == [
            ("ordered", made.stdout.strip())
        ]
        assert "Ordered again: 0 requests.\n1 more were ordered again" in known.stderr
        assert ("`--again 2`" in known.stderr, known.exit_code) == (True, 0)
    more = expunge("reapply", *SINCE, "--again", "2")
    assert (more.exit_code, "Ordered again: 1 request." in more.stderr) == (0, True)


def test_of_what_was_scrubbed_since_a_backup_only_the_producer_knows(expunge, erased, ledger):
    ledger.scrub(redrive_days=0, row_days=0)
    scrubbed = expunge("reapply", *SINCE, "-o", "json")
    assert {one["left_out"] for one in json.loads(scrubbed.stdout)} == {"scrubbed"}
    assert (scrubbed.exit_code, "--users" in scrubbed.stderr) == (3, True)
    told = expunge("reapply", *SINCE, "--users", "-", "-o", "jsonl", stdin="alice\n")
    assert {json.loads(line)["answer"] for line in told.stdout.splitlines()} == {"erased"}
    none = expunge("reapply", *SINCE, "--ids", "-", "--project", "default", stdin="m1\n")
    assert (none.exit_code, "No scrubbed batch" in none.stderr) == (0, True)
    with ledger._database.engine.begin() as conn:
        bodies = conn.exec_driver_sql("SELECT payload FROM event_body").scalars().all()
    (look,) = (bytes(one) for one in bodies if b"batches.looked_up" in bytes(one))
    assert (json.loads(look)["asked"], b"m1" in look) == (1, False)


@pytest.mark.parametrize("asked", [(), ("--ids", "-"), ("--users", "-"), ("--dry-run",)])
def test_a_project_that_nobody_knows_is_refused_with_those_that_are_known(expunge, erased, asked):
    told = expunge("reapply", *SINCE, "--project", "defualt", *asked, stdin="m1\n")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "known are: default." in told.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "new-epoch", *WHY),
        ("keys", "destroy-epoch", "1", *WHY),
        ("keys", "rotate", *WHY),
        ("reapply", *SINCE),
        ("reapply", *SINCE, "--ids", "-"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
@pytest.mark.usefixtures("erased")
def test_with_another_ledgers_keys_nothing_is_destroyed_made_or_ordered(
    expunge, ledger, tmp_path, monkeypatch, command
):
    assert expunge("seal", "--once").exit_code == 0
    assert expunge("keys", "new-epoch", *WHY).exit_code == 0
    ledger.scrub(redrive_days=0, row_days=0)
    others = tmp_path / "others"
    Keys.create(others)
    (others / "subjects.2.key").write_text((others / "subjects.1.key").read_text())
    there = {path.name: path.read_text() for path in others.iterdir()}
    with ledger._database.engine.begin() as conn:
        before = conn.exec_driver_sql("SELECT count(*) FROM event").scalar()
    monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(others))
    told = expunge(*command, stdin="m1\n")
    assert (told.exit_code, "EXPUNGE_KEYS_DIR" in told.stderr) == (2, True)
    assert {path.name: path.read_text() for path in others.iterdir()} == there
    with ledger._database.engine.begin() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM event").scalar() == before
        assert conn.exec_driver_sql("SELECT count(subject_ref) FROM request").scalar() == 1


def test_a_request_of_which_something_was_changed_is_named(expunge, erased, ledger):
    with ledger._database.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE request SET tampered = 1")
    listed = expunge("list", "tampered:true")
    assert erased in listed.stdout
    assert "tampered" in listed.stdout
    assert json.loads(expunge("status", erased, "-o", "json").stdout)["tampered"] is True
