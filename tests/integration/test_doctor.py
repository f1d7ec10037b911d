"""The doctor on real parts: what it sees, what it calls, and that it shows no secret."""

import asyncio
import json
import socket
import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from expunge.cli import app
from expunge.doctor import Grade, examine
from expunge.doctor.memos import probe_project
from ledger import Keys, Ledger, upgrade
from ledger.engine import Database
from ledger.errors import LedgerError
from ledger.projects import Dialect
from ledger.settings import load_settings
from memos_api import MemosClient
from memos_api.simulator.process import SimulatorProcess
from memos_api.simulator.remote import worst_window
from tests.support.roles import upgrade_with_roles

HUSH = "hush-7d1f"


@pytest.fixture(scope="module")
def simulator():
    with SimulatorProcess() as running:
        yield running


@pytest.fixture
def memos(simulator):
    simulator.control.reset()
    simulator.control.seed(users=1, memories=2)
    return simulator


@pytest.fixture
def home(tmp_path, monkeypatch, ledger_url, valkey, memos):
    """Everything there, and the settings in the environment."""
    ledger = ledger_url
    if ledger.startswith("sqlite"):
        upgrade(ledger)
        away = tmp_path.with_name(f"{tmp_path.name}-away")
        away.mkdir(mode=0o700)
        monkeypatch.setenv("EXPUNGE_KEYS_DIR", str(away / "keys"))
        monkeypatch.setenv("EXPUNGE_AUDIT_DIR", str(away / "audit"))
    else:
        ledger = upgrade_with_roles(ledger).app
    for name, value in {
        "EXPUNGE_LEDGER_URL": ledger,
        "EXPUNGE_LEDGER_ADMIN_URL": ledger_url,
        "EXPUNGE_REDIS_URL": valkey.url,
        "MEMOS_BASE_URL": memos.base_url,
        "MEMOS_API_KEY": memos.api_key,
    }.items():
        monkeypatch.setenv(name, value)
    # How long a busy machine is waited for is not what is shown here.
    monkeypatch.setattr("expunge.probing.PATIENCE_S", 60.0)
    settings = load_settings()
    Keys.create(settings.keys_dir)
    return settings


@pytest.fixture
def sql(home):
    database = Database(home.ledger_admin_url)
    yield lambda statement: database.write(lambda conn: conn.execute(text(statement)))
    database.close()


def findings(*, offline=True, **named):
    found = list(examine(offline=offline, principal="ops", **named))
    for one in found:
        assert (one.fix is None) == (one.grade is Grade.OK)
    return {one.check: one for one in found}


def bad(**named):
    return {name: one.grade.value for name, one in findings(**named).items() if one.fix}


def beat(home, role="steward"):
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.beat(process=f"{role}-1", role=role)


def test_a_service_that_is_well_is_told_so(home, memos):
    beat(home)
    assert bad(offline=False) == {}
    calls = memos.control.journal()
    assert [(call.endpoint, call.applied) for call in calls] == [("list", 0), ("read", 0)]
    assert memos.control.remaining().total == 2


def test_offline_calls_nobody(home, memos):
    beat(home)
    assert bad() == {}
    assert memos.control.journal() == []


def test_nothing_runs_and_nothing_was_made_yet(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPUNGE_REDIS_URL", f"redis://:{HUSH}@127.0.0.1:1/0")
    assert bad() == {"keys": "fail", "redis": "fail", "ledger": "fail"}
    assert list(tmp_path.iterdir()) == []  # looking makes nothing
    assert HUSH not in str(findings())


def test_a_wrong_setting_is_the_only_finding(monkeypatch):
    monkeypatch.setenv("EXPUNGE_RATE", "3")
    found = findings()
    assert list(found) == ["settings"]
    assert found["settings"].grade is Grade.FAIL
    assert "EXPUNGE_RATE_PER_SECOND" in found["settings"].says


@pytest.mark.parametrize(
    ("revision", "word"), [("0001", "db upgrade"), ("9999", "upgrade this installation")]
)
def test_a_ledger_of_another_release_is_told(home, sql, revision, word):
    sql(f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608 - ours
    found = findings()["ledger"]
    assert found.grade is Grade.FAIL
    assert revision in found.says
    assert word in str(found.fix).lower()


def test_work_that_nobody_takes_and_a_project_that_stands_still_are_told(home, sql):
    runner = CliRunner()
    assert runner.invoke(app, ["submit", "--user-id", "u-17"]).exit_code == 0
    assert bad() == {"workers": "fail", "sealer": "warn"}
    beat(home)
    assert bad() == {"workers": "warn", "sealer": "warn"}  # nobody has ever claimed
    sql("UPDATE request SET held = 1, hold_reason = 'legal'")
    assert bad() == {"requests": "warn", "sealer": "warn"}
    sql("UPDATE project SET paused = 1, pause_reason = 'http_401'")
    found = findings(offline=False)
    assert "expunge resume default" in str(found["pauses"].fix)
    assert found["memos default"].says.startswith("Not asked")
    assert "u-17" not in str(found)


def test_requests_that_were_changed_are_counted_and_say_what_to_do(home, sql):
    runner = CliRunner()
    beat(home)
    for _ in range(2):
        runner.invoke(app, ["submit", "--memory-id", "m-17"])
    sql("UPDATE request SET tampered = 1, held = 1, hold_reason = 'tampered'")
    found = findings()["requests"]
    assert (found.grade, "stopped: 2." in found.says) == (Grade.FAIL, True)
    assert "An order was changed" in str(found.fix)
    # Held by nobody who would only have to release them.
    told = [one.says for one in examine(offline=True, principal="ops") if one.check == "requests"]
    assert len(told) == 1
    sql(
        "UPDATE request SET state = 'failed', result = 'failed', finished_at = 1, held = 0, "
        "hold_reason = NULL, certainty = 'unverifiable', pending = 0, refused = 1"
    )
    found = findings()["requests"]
    assert (found.grade, "Ended" in found.says, "2" in found.says) == (Grade.WARN, True, True)
    sql("UPDATE request SET scrub = 'done', scrubbed_at = 2")
    assert findings()["requests"].grade is Grade.OK


def test_a_key_that_memos_refuses_is_told_and_not_shown(home, memos, monkeypatch):
    monkeypatch.setenv("MEMOS_API_KEY", HUSH)
    found = findings(offline=False)
    assert "refuses the key" in found["memos default"].says
    assert HUSH not in str(found)


def test_a_memos_that_cannot_be_reached_is_told(home, monkeypatch):
    monkeypatch.setenv("MEMOS_BASE_URL", "http://127.0.0.1:1/v1")
    assert "cannot be reached" in findings(offline=False)["memos default"].says


def test_a_redis_that_keeps_nothing_is_told_where_a_stream_is_read(home, monkeypatch, tmp_path):
    config = tmp_path / "expunge.toml"
    config.write_text("[streams.orders]\n")
    monkeypatch.setenv("EXPUNGE_CONFIG", str(config))
    beat(home)
    assert bad() == {"redis": "warn", "stream orders": "warn"}


def test_a_stream_is_looked_at_where_it_is(home, monkeypatch, tmp_path, valkey):
    (tmp_path / "expunge.toml").write_text("[streams.orders]\n")
    monkeypatch.setenv("EXPUNGE_CONFIG", str(tmp_path / "expunge.toml"))
    with valkey.client() as client:
        client.xgroup_create("orders", "expunge", "0", mkstream=True)
        client.xadd("orders", {"event": "1"})
        client.xadd("orders", {"event": "2"})
        assert findings()["stream orders"].grade is Grade.FAIL  # they wait, and nobody reads
        client.xreadgroup("expunge", "bridge-1", {"orders": ">"}, count=1)
    found = findings()["stream orders"]
    assert (found.grade, found.says) == (Grade.OK, "1 messages wait, 1 are being taken in.")


def test_a_server_that_takes_connections_and_says_nothing_holds_nothing_up(home, monkeypatch):
    beat(home)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("EXPUNGE_REDIS_URL", f"redis://127.0.0.1:{port}/0")
        monkeypatch.setattr("expunge.doctor.redis_facts._TIMEOUT_S", 0.2)
        monkeypatch.setattr("expunge.probing.DEADLINE_S", 0.3)
        monkeypatch.setenv("MEMOS_BASE_URL", f"http://127.0.0.1:{port}/v1")
        started = time.monotonic()
        assert bad(offline=False) == {"redis": "fail", "memos default": "fail"}
        assert time.monotonic() - started < 5


def test_the_command_says_the_same_to_people_and_programs(home, monkeypatch):
    beat(home)
    runner = CliRunner()
    shown = runner.invoke(app, ["doctor", "--offline"])
    assert shown.exit_code == 0
    assert "fail" not in shown.stdout
    record = json.loads(runner.invoke(app, ["doctor", "--offline", "-o", "json"]).stdout)
    assert record["ok"] is True
    lines = runner.invoke(app, ["doctor", "--offline", "-o", "jsonl"]).stdout.splitlines()
    told = [(one["check"], one["grade"], one["fix"]) for one in map(json.loads, lines)]
    # Not what they say: it holds moments and free space.
    assert told == [(one["check"], one["grade"], one["fix"]) for one in record["findings"]]
    monkeypatch.setenv("EXPUNGE_REDIS_URL", f"redis://:{HUSH}@127.0.0.1:1/0")
    for output in ("table", "json", "jsonl", "id"):
        result = runner.invoke(app, ["doctor", "--offline", "-o", output])
        assert result.exit_code == 1
        assert HUSH not in result.output
    assert "  -> Start Redis" in runner.invoke(app, ["doctor", "--offline"]).stdout


def test_secrets_that_everybody_can_read_are_told(home, monkeypatch, tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)
    path = folder / "memos_api_key"
    path.write_text("demo-key")
    path.chmod(0o644)
    monkeypatch.setenv("EXPUNGE_SECRETS_DIR", str(folder))
    result = CliRunner().invoke(app, ["doctor", "--offline", "-o", "json"])
    found = {one["check"]: one for one in json.loads(result.stdout)["findings"]}
    assert found["secret files"]["fix"] == f"chmod 600 {path}"


# -- the one call ---------------------------------------------------------------------------------


def events(home):
    database = Database(home.ledger_url)
    query = text(
        "SELECT payload FROM event_body JOIN event ON event.id = event_body.event "
        "WHERE type LIKE 'calls.%'"
    )
    rows = database.read(lambda conn: conn.execute(query).scalars().all())
    database.close()
    return sorted((json.loads(row) for row in rows), key=lambda one: one["type"])


def test_each_call_is_recorded_before_and_after(home, memos):
    findings(offline=False)
    assert [call.endpoint for call in memos.control.journal()] == ["list", "read"]
    intents = [one for one in events(home) if one["type"] == "calls.intent"]
    outcomes = {one["claim"]: one for one in events(home) if one["type"] == "calls.outcome"}
    assert {one["claim"] for one in intents} == set(outcomes)
    assert len(intents) == 2
    intent = min(intents, key=lambda one: int(one["slot"]))
    outcome = outcomes[intent["claim"]]
    assert (intent["type"], intent["probe"], intent["worker"]) == ("calls.intent", True, "ops")
    assert (outcome["type"], outcome["claim"]) == ("calls.outcome", intent["claim"])
    assert outcome["outcomes"] == {"acknowledged": 1}


def test_many_doctors_at_once_stay_below_the_rate(home, memos, monkeypatch):
    """At the moments of departure: a busy machine may bring a call to the server later."""
    monkeypatch.setenv("EXPUNGE_RATE_PER_SECOND", "5")
    departures = []

    class Timed(MemosClient):
        async def send(self, call, *, leaves=None):
            async def leaves_now():
                await leaves()
                departures.append(time.monotonic())

            return await super().send(call, leaves=leaves_now)

    monkeypatch.setattr("expunge.probing.MemosClient", Timed)
    threads = [threading.Thread(target=lambda: findings(offline=False)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memos.control.journal()) == len(departures) >= 2
    assert worst_window(departures, 1.0) <= 5


def test_a_call_whose_slot_was_missed_is_not_made(home, memos, monkeypatch):
    monkeypatch.setattr("expunge.probing.PATIENCE_S", 0.0)
    sleep = asyncio.sleep
    monkeypatch.setattr("expunge.probing.asyncio.sleep", lambda seconds: sleep(seconds + 0.05))
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 50.0})
        found = probe_project(ledger, home.projects["default"], principal="ops")
    assert found.grade is Grade.WARN
    assert memos.control.journal() == []
    assert {one["type"] for one in events(home)} == {"calls.intent", "calls.outcome"}
    assert events(home)[-1]["outcomes"] == {"unsent": 1}


def test_a_call_whose_connection_took_too_long_does_not_depart(home, memos, monkeypatch):
    monkeypatch.setattr("expunge.probing.LATE_NS", -1)
    monkeypatch.setattr("expunge.probing._MOST_LATE_NS", -1)
    monkeypatch.setattr("expunge.probing.PATIENCE_S", 0.0)
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 50.0})
        found = probe_project(ledger, home.projects["default"], principal="ops")
    assert (found.grade, "too late for the call" in found.says) == (Grade.WARN, True)
    assert memos.control.journal() == []
    assert [one["type"] for one in events(home)] == ["calls.intent", "calls.outcome"]
    assert events(home)[-1]["outcomes"] == {"unsent": 1}


def test_a_call_whose_connection_took_its_time_departs_once_the_next_slot_is_moved(home, memos):
    """As for any call that departs late, so that no second holds more than the limit."""
    database = Database(home.ledger_url)
    at_departure = []

    class Slow(MemosClient):
        async def send(self, call, *, leaves=None):
            await asyncio.sleep(0.1)

            async def leaves_now():
                await leaves()
                query = text("SELECT next_slot_ns FROM account")
                at_departure.append(database.read(lambda conn: conn.execute(query).scalar_one()))

            return await super().send(call, leaves=leaves_now)

    def client(project):
        return Slow(base_url=memos.base_url, api_key=memos.api_key, deadline_s=5)

    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 1_000.0})
        probe_project(ledger, home.projects["default"], principal="ops", client=client)
    database.close()
    slots = [int(one["slot"]) for one in events(home) if one["type"] == "calls.intent"]
    assert at_departure[0] - min(slots) >= 97_000_000


def test_a_late_call_departs_though_each_move_of_the_slots_takes_longer_than_a_gap(
    home, memos, monkeypatch
):
    moved, postpone = [], Ledger.postpone

    def slow(self, account, *, by_ns):
        time.sleep(0.03)
        moved.append(by_ns)
        postpone(self, account, by_ns=by_ns)

    monkeypatch.setattr("expunge.probing.LATE_NS", -1)
    monkeypatch.setattr(Ledger, "postpone", slow)
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 50.0})
        found = probe_project(ledger, home.projects["default"], principal="ops")
    assert found.grade is Grade.OK
    assert len(moved) >= 2


def test_a_late_call_does_not_depart_when_the_ledger_cannot_move_the_next_slot(
    home, memos, monkeypatch
):
    def refuse(*_args, **_named):
        raise LedgerError

    monkeypatch.setattr("expunge.probing.LATE_NS", -1)
    monkeypatch.setattr("expunge.probing.PATIENCE_S", 0.0)
    monkeypatch.setattr(Ledger, "postpone", refuse)
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 50.0})
        found = probe_project(ledger, home.projects["default"], principal="ops")
    assert found.grade is Grade.WARN
    assert memos.control.journal() == []


def test_a_self_hosted_memos_is_told_from_the_cloud(home, memos):
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 50.0})
        wrong = replace(home.projects["default"], base_url=memos.self_hosted_url)
        found = probe_project(ledger, wrong, principal="ops")
        right = replace(wrong, dialect=Dialect.SELF_HOSTED, cubes=("default",))
        own = probe_project(ledger, right, principal="ops")
    assert (found.grade, "self-hosted MemOS answers" in found.says) == (Grade.FAIL, True)
    assert own.grade is Grade.OK


def test_a_cloud_is_told_from_a_self_hosted_memos(home, memos):
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 50.0})
        wrong = replace(home.projects["default"], dialect=Dialect.SELF_HOSTED, cubes=("x",))
        found = probe_project(ledger, wrong, principal="ops")
    assert (found.grade, "Cloud's interface answers" in found.says) == (Grade.FAIL, True)


def test_reads_by_id_that_cannot_say_absent_are_told_of(home, memos):
    memos.control.set_faults({"kind": "http_5xx", "endpoint": "read"})
    with Ledger.open(home.ledger_url, keys=Keys.load(home.keys_dir)) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 50.0})
        found = probe_project(ledger, home.projects["default"], principal="ops")
    assert (found.grade, "stay unverifiable" in found.says) == (Grade.WARN, True)


@pytest.mark.parametrize(
    ("lies", "grade", "told"),
    [
        ((), Grade.OK, "shows the memory that is there"),
        (("by_id_blind",), Grade.FAIL, "prove nothing"),
    ],
)
def test_a_memory_that_is_there_shows_whether_reads_find_anything(home, memos, lies, grade, told):
    there = memos.control.seed(users=1, memories=1).memory_ids[0]
    memos.control.set_lies(*lies)
    found = findings(offline=False, there=("default", there))["memos default"]
    assert (found.grade, told in found.says) == (grade, True)
    assert there not in found.says + str(found.fix)
    assert there not in "".join(map(json.dumps, events(home)))
