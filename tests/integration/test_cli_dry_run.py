"""`--dry-run` of submit and import: what it says, asks of MemOS, and leaves alone."""

import json

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from expunge.cli import app
from ledger import Keys, Ledger, upgrade
from ledger.schema import event_body
from ledger.settings import load_settings
from memos_api.simulator.process import SimulatorProcess
from tests.support.homes import CLOSED_REDIS

CANARY = "canary-5f"


@pytest.fixture(scope="module")
def simulator():
    with SimulatorProcess() as running:
        yield running


@pytest.fixture
def memos(simulator):
    simulator.control.reset()
    return simulator


@pytest.fixture
def home(tmp_path, monkeypatch, ledger_url, memos):
    """A worker's home with a key; the settings are in the environment."""
    for name, value in {
        "EXPUNGE_HOME": str(tmp_path),
        "EXPUNGE_LEDGER_URL": ledger_url,
        "EXPUNGE_REDIS_URL": CLOSED_REDIS,
        "EXPUNGE_RATE_PER_SECOND": "200",
        "MEMOS_BASE_URL": memos.base_url,
        "MEMOS_API_KEY": memos.api_key,
    }.items():
        monkeypatch.setenv(name, value)
    # What is found is shown here, not how long a busy machine is waited for.
    monkeypatch.setattr("expunge.census.PATIENCE_S", 60.0)
    monkeypatch.setattr("expunge.census._LONGEST_S", 60.0)
    Keys.create(tmp_path / "keys")
    upgrade(ledger_url)
    return tmp_path


def run(*args, stdin=None, code=0):
    found = CliRunner().invoke(app, [str(each) for each in args], input=stdin)
    assert found.exit_code == code, found.stderr
    return found


def dry(*args, **named):
    return json.loads(run(*args, "--dry-run", "-o", "json", **named).stdout)


def ledger():
    settings = load_settings()
    return Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir))


def events():
    with ledger() as opened:
        bodies = opened._database.read(
            lambda conn: conn.execute(select(event_body.c.payload)).scalars().all()
        )
    return [json.loads(bytes(each)) for each in bodies]


def requests():
    with ledger() as opened:
        return opened.list_requests()


@pytest.mark.usefixtures("home")
def test_a_purge_is_told_with_its_calls_and_how_many_memories_are_there(memos):
    seeded = memos.control.seed(users=2, memories=130)
    found = dry("submit", "--user-id", "-", stdin=seeded.users[0])
    assert (found["kind"], found["lane"], found["verify"]) == ("user", "erasure", "full")
    assert (found["calls"], found["readback_calls_least"]) == (1, 1)
    assert found["due_at"] is not None
    assert (found["memories_now"], found["memories_note"]) == (130, None)
    assert found["readback_calls_most"] == 4  # the last page is empty
    assert found["hold_reason"] is None
    # Each look is a call like any other: with its slot, a record before it and one after it.
    calls = memos.control.journal()
    assert {call.endpoint for call in calls} == {"list"}
    records = events()
    outcomes = [one for one in records if one["type"] == "calls.outcome"]
    made = [one["claim"] for one in outcomes if "unsent" not in one["outcomes"]]
    assert len(made) == len(calls) >= 2
    intents = {one["claim"]: one["slot"] for one in records if one["type"] == "calls.intent"}
    assert set(intents) == {one["claim"] for one in outcomes}
    assert len(set(intents.values())) == len(intents)
    assert memos.control.remaining().total == 260
    assert requests() == []


@pytest.mark.usefixtures("home")
def test_no_id_is_ever_shown(memos):
    seeded = memos.control.seed(users=1, memories=3)
    shown = run("submit", "--user-id", seeded.users[0], "--dry-run")
    text = shown.stdout + shown.stderr + json.dumps(events())
    assert seeded.users[0] not in text
    assert not any(each in text for each in seeded.memory_ids)
    assert "memories now" in shown.stdout


@pytest.mark.usefixtures("home")
def test_ids_are_counted_after_folding_and_a_sample_may_become_all_of_them(monkeypatch, memos):
    monkeypatch.setenv("EXPUNGE_CHUNK_SIZE", "10")
    lines = "".join(f"m-{n % 95}\n" for n in range(200))
    found = dry("submit", "--memory-id", "-", "--verify", "sample:20", stdin=lines)
    assert (found["requested"], found["unique"], found["calls"]) == (200, 95, 10)
    assert (found["readback_calls_least"], found["readback_calls_most"]) == (21, 117)
    assert (found["lane"], found["due_at"]) == ("bulk", None)
    assert found["seconds"] == pytest.approx(30 / 199, abs=0.01)
    assert (found["memories_now"], found["memories_note"]) == (None, "not_looked")
    found = dry("submit", "--memory-id", "a", "--verify", "none")
    assert (found["readback_calls_least"], found["readback_calls_most"]) == (0, 0)
    assert memos.control.journal() == []


@pytest.mark.usefixtures("home")
def test_with_a_user_named_the_ids_are_read_back_by_that_users_list(memos):
    seeded = memos.control.seed(users=1, memories=60)
    found = dry("submit", "--memory-id", seeded.memory_ids[0], "--user", seeded.users[0])
    assert (found["readback_calls_least"], found["readback_calls_most"]) == (2, 5)
    assert found["memories_now"] == 60
    found = dry("import", "-", "--user", seeded.users[0], stdin="\n".join(seeded.memory_ids))
    assert (found["requests"], found["unique"], found["calls"]) == (1, 60, 1)
    assert (found["readback_calls_least"], found["readback_calls_most"]) == (4, 64)
    assert found["memories_now"] == 60


def test_without_a_key_or_a_ledger_it_says_that_it_could_not_look(home, monkeypatch, memos):
    (home / "empty").mkdir()
    monkeypatch.delenv("MEMOS_API_KEY")
    shown = run("submit", "--user-id", CANARY, "--dry-run", "-o", "json")
    assert json.loads(shown.stdout)["memories_note"] == "no_key"
    assert "could not be looked up (no_key)" in shown.stderr
    monkeypatch.setenv("MEMOS_API_KEY", memos.api_key)
    monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(home / "empty"))
    assert dry("submit", "--user-id", CANARY)["memories_note"] == "keys_missing"
    monkeypatch.delenv("EXPUNGE_KEYS_DIR")
    monkeypatch.setenv("EXPUNGE_LEDGER_URL", f"sqlite:///{home}/none.db")
    assert dry("submit", "--user-id", CANARY)["memories_note"] == "no_ledger"
    assert not (home / "none.db").exists()
    monkeypatch.setenv("EXPUNGE_LEDGER_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert dry("submit", "--user-id", CANARY)["memories_note"] == "ledger_unreachable"
    assert memos.control.journal() == []


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("scope", ["project", "account"])
def test_while_it_is_paused_nobody_looks(memos, scope):
    what = ["default"] if scope == "project" else ["--account", "default"]
    run("pause", *what, "--reason", "freeze-3")
    found = dry("submit", "--user-id", CANARY)
    assert (found["memories_now"], found["memories_note"]) == (None, f"{scope}_paused")
    assert found["calls"] == 1
    assert memos.control.journal() == []


@pytest.mark.usefixtures("home")
def test_a_pause_that_is_committed_before_the_slot_keeps_the_look_back(memos, monkeypatch):
    real = Ledger.book_probe

    def book_probe(self, name, **rest):
        booked = real(self, name, **rest)
        self.pause_project(name, principal="olga", reason="freeze-3")
        return booked

    monkeypatch.setattr(Ledger, "book_probe", book_probe)
    assert dry("submit", "--user-id", CANARY)["memories_note"] == "project_paused"
    assert memos.control.journal() == []
    [outcome] = [one for one in events() if one["type"] == "calls.outcome"]
    assert outcome["outcomes"] == {"unsent": 1}
    assert outcome["reason"] == "halted"


@pytest.mark.usefixtures("home")
def test_a_long_list_is_looked_through_up_to_a_bound(memos, monkeypatch):
    monkeypatch.setattr("expunge.census.MOST_PAGES", 2)
    seeded = memos.control.seed(users=1, memories=700)
    shown = run("submit", "--user-id", seeded.users[0], "--dry-run", "-o", "json")
    found = json.loads(shown.stdout)
    assert 0 < found["memories_now"] < 700
    assert found["memories_note"] == "many_pages"
    assert found["readback_calls_most"] is None
    assert "There may be more" in shown.stderr
    assert len(memos.control.journal()) == 2


@pytest.mark.usefixtures("home")
def test_an_answer_that_says_no_is_told_and_not_asked_again(memos):
    memos.control.set_faults({"kind": "http_5xx", "endpoint": "any"})
    found = dry("submit", "--user-id", CANARY)
    assert found["memories_now"] is None
    assert found["memories_note"]
    assert len(memos.control.journal()) == 1


@pytest.mark.usefixtures("home")
def test_it_says_whether_a_ceiling_would_hold_it(monkeypatch):
    monkeypatch.delenv("MEMOS_API_KEY")
    monkeypatch.setenv("EXPUNGE_MAX_IDS_PER_REQUEST", "2")
    monkeypatch.setenv("EXPUNGE_MAX_PURGES_PER_HOUR", "1")
    ids = ["--memory-id", "a", "--memory-id", "b"]
    assert dry("submit", *ids)["hold_reason"] is None
    shown = run("submit", *ids, "--memory-id", "c", "--dry-run", "-o", "json")
    assert json.loads(shown.stdout)["hold_reason"] == "ceiling_ids"
    assert "expunge release" in shown.stderr
    assert dry("submit", "--user-id", "u")["hold_reason"] is None
    run("submit", "--user-id", "u")
    assert dry("submit", "--user-id", "v")["hold_reason"] == "ceiling_purges"
    assert dry("import", "-", stdin="a\nb\nc\n")["held"] == 1
    assert dry("import", "-", "--kind", "user", stdin="u\nv\nu\n")["held"] == 2
    assert len(requests()) == 1


@pytest.mark.usefixtures("home")
def test_a_dry_import_needs_no_ledger_and_says_what_it_could_not_count(home, monkeypatch):
    monkeypatch.setenv("EXPUNGE_LEDGER_URL", f"sqlite:///{home}/none.db")
    monkeypatch.setenv("EXPUNGE_MAX_PURGES_PER_HOUR", "1")
    lines = '{"user_id": "u"}\n{"agent_id": "v", "lane": "bulk"}\n{"memory_ids": ["a", "b"]}\n'
    shown = run("import", "-", "--format", "jsonl", "--dry-run", "-o", "json", stdin=lines)
    found = json.loads(shown.stdout)
    assert (found["requests"], found["calls"], found["held"]) == (3, 3, 1)
    assert found["lanes"] == {"erasure": 1, "bulk": 2}
    assert found["first_due_at"] is not None
    assert (found["readback_calls_least"], found["readback_calls_most"]) == (5, None)
    assert "were not counted" in shown.stderr
    assert "2 bulk" in run("import", "-", "--format", "jsonl", "--dry-run", stdin=lines).stdout
    assert not (home / "none.db").exists()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "what",
    [
        ["--user-id", "u" * 101],
        ["--user-id", "u", "--reason", "Ms Smith called"],
        ["--user-id", "u", "--project", "nobody"],
        ["--user-id", "u", "--verify", "some"],
        ["--memory-id", ""],
    ],
)
def test_what_would_be_refused_is_refused_before_anybody_is_asked(memos, what):
    run("submit", *what, "--dry-run", code=2)
    assert memos.control.journal() == []
