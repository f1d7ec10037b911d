"""`expunge pause`, `resume` and `pauses`, and receipts of what a ceiling keeps on hold."""

import json

import pytest
from sqlalchemy import select

from ledger import Keys, Ledger
from ledger.schema import event_body


def one(result, code=0):
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def told(settings):
    """Give the events of a type."""

    def find(kind):
        with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
            bodies = ledger._database.read(
                lambda conn: conn.execute(select(event_body.c.payload)).scalars().all()
            )
        return [body for body in map(json.loads, bodies) if body["type"] == kind]

    return find


@pytest.mark.parametrize(
    ("what", "scope", "hint"),
    [
        (["default"], "project", "expunge resume default"),
        (["--account", "default"], "account", "expunge resume --account default"),
    ],
)
def test_a_pause_is_shown_until_it_is_resumed_with_who_did_both(  # noqa: PLR0917 - fixtures
    expunge, told, monkeypatch, what, scope, hint
):
    monkeypatch.setattr("getpass.getuser", lambda: "olga")
    # No worker has ever started here, and yet it can be stopped beforehand.
    shown = expunge("pause", *what, "--reason", "freeze-3")
    assert (shown.exit_code, "is paused" in shown.stderr) == (0, True)
    request_id = expunge("submit", "--memory-id", "a", "-o", "id").stdout.strip()
    for command in (("list",), ("status", request_id)):
        stderr = expunge(*command).stderr
        assert "freeze-3" in stderr
        assert hint in stderr
    [row] = one(expunge("pauses", "-o", "json"))
    assert row.pop("since") is not None
    assert row == {
        "id": f"{scope}/default",
        "scope": scope,
        "name": "default",
        "kind": "paused",
        "reason": "freeze-3",
        "seconds_left": None,
    }
    assert "freeze-3" in expunge("pauses").stdout
    assert expunge("pauses", "-o", "id").stdout.split() == [f"{scope}/default"]
    assert "was paused already" in expunge("pause", *what, "--reason", "other").stderr

    assert "goes on" in expunge("resume", *what, "--reason", "done-1").stderr
    assert "was not stopped" in expunge("resume", *what).stderr
    assert "Nothing stands still" in expunge("pauses").stderr
    assert one(expunge("pauses", "-o", "json")) == []
    [paused], [resumed] = told(f"{scope}.paused"), told(f"{scope}.resumed")
    assert (paused["principal"], paused["reason"]) == ("olga", "freeze-3")
    assert (resumed["principal"], resumed["reason"]) == ("olga", "done-1")
    assert resumed["paused_for"] == "freeze-3"


@pytest.mark.parametrize(
    "args",
    [
        ["pause", "--reason", "x"],
        ["pause", "default"],
        ["pause", "default", "--account", "default", "--reason", "x"],
        ["pause", "default", "--reason", "Ms Smith called"],
        ["pause", "nobody", "--reason", "x"],
        ["pause", "--account", "nobody", "--reason", "x"],
        ["resume"],
        ["resume", "--account", "nobody"],
        ["resume", "default", "--reason", "free text"],
    ],
)
def test_what_cannot_be_meant_is_bad_input_and_stops_nothing(expunge, args):
    assert expunge(*args).exit_code == 2
    assert one(expunge("pauses", "-o", "json")) == []


def test_a_receipt_says_what_a_ceiling_holds_and_how_to_let_it_go(expunge, monkeypatch):
    monkeypatch.setenv("EXPUNGE_MAX_IDS_PER_REQUEST", "1")
    monkeypatch.setenv("EXPUNGE_MAX_PURGES_PER_HOUR", "0")
    free = one(expunge("submit", "--memory-id", "a", "-o", "json"))
    assert free["hold_reason"] is None
    for what, reason in (
        (["--memory-id", "a", "--memory-id", "b"], "ceiling_ids"),
        (["--user-id", "u"], "ceiling_purges"),
    ):
        shown = expunge("submit", *what, "--idempotency-key", reason, "-o", "json")
        receipt = one(shown)
        assert receipt["hold_reason"] == reason
        assert f"expunge release {receipt['id']}" in shown.stderr
        again = expunge("submit", *what, "--idempotency-key", reason)
        assert reason in again.stdout
        view = one(expunge("status", receipt["id"], "-o", "json"))
        assert (view["state"], view["held"], view["hold_reason"]) == ("open", True, reason)
    held = expunge("list", "held:true", "-o", "id").stdout.split()
    assert len(held) == 2
    assert one(expunge("release", *held, "--yes", "-o", "json"))[0]["outcome"] == "done"
    assert one(expunge("list", "held:true", "-o", "json")) == []


def test_an_import_tells_how_many_of_its_requests_wait_for_a_release(expunge, monkeypatch):
    monkeypatch.setenv("EXPUNGE_MAX_PURGES_PER_HOUR", "2")
    lines = "".join(f"u{n}\n" for n in range(5))
    shown = expunge("import", "-", "--kind", "user", "-o", "json", stdin=lines)
    assert one(shown)["held"] == 3
    assert "3 of these requests are on hold" in shown.stderr
    assert "expunge list held:true" in shown.stderr
    monkeypatch.setenv("EXPUNGE_MAX_IDS_PER_REQUEST", "1500")
    ids = "".join(f"m{n}\n" for n in range(1_501))
    assert one(expunge("import", "-", "-o", "json", stdin=ids))["held"] == 1


def test_the_config_file_sets_a_projects_own_ceilings(expunge, monkeypatch, tmp_path):
    (tmp_path / "e.toml").write_text(
        "[projects.crm]\nmax_ids_per_request = 1\nmax_purges_per_hour = 0\n"
    )
    monkeypatch.setenv("EXPUNGE_CONFIG", str(tmp_path / "e.toml"))
    monkeypatch.setenv("EXPUNGE_MAX_IDS_PER_REQUEST", "2")
    two = ("--memory-id", "a", "--memory-id", "b")
    receipts = [
        one(expunge("submit", *what, "-o", "json"))["hold_reason"]
        for what in (
            two,
            (*two, "--project", "crm"),
            ("--user-id", "u"),
            ("--user-id", "u", "--project", "crm"),
        )
    ]
    assert receipts == [None, "ceiling_ids", None, "ceiling_purges"]
    [_, crm] = one(expunge("config", "show", "-o", "json"))["projects"]
    assert (crm["max_ids_per_request"], crm["max_purges_per_hour"]) == (1, 0)
