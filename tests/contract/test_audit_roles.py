"""On PostgreSQL the application's role adds to the record, and the sealer's seals; no more."""

from contextlib import closing

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from expunge.doctor.audit_checks import check_guard
from ledger import Kind, Ledger, upgrade
from ledger.audit.guarding import look_at_guard
from ledger.audit.halting import halt_all
from ledger.audit.pruning import prune_bodies
from ledger.engine import Database
from ledger.errors import SettingsError
from ledger.grants import RECORD
from ledger.leases import beat
from tests.support.audit_log import AuditLog
from tests.support.ledger_world import KEYS, make_order
from tests.support.roles import upgrade_with_roles


@pytest.fixture
def roles(postgres_url):
    return upgrade_with_roles(postgres_url)


def refused(url, statement):
    with (
        closing(Database(url)) as database,
        pytest.raises(ProgrammingError, match="permission denied"),
        database.engine.begin() as conn,
    ):
        conn.execute(text(statement))
    return True


@pytest.mark.fault("F43")
@pytest.mark.parametrize("table", RECORD)
def test_the_application_cannot_change_the_record(roles, table):
    column = {"event_body": "payload", "checkpoint": "note", "origin": "name", "pruning": "event"}
    name = column.get(table, "hash" if table in ("leaf", "subtree") else "type")
    assert refused(roles.app, f"UPDATE {table} SET {name} = NULL")  # noqa: S608 - ours
    assert refused(roles.app, f"DELETE FROM {table}")  # noqa: S608 - ours
    assert refused(roles.app, f"TRUNCATE {table} CASCADE")
    if table not in ("event", "event_body"):
        assert refused(roles.app, f"INSERT INTO {table} DEFAULT VALUES")
    assert refused(roles.sealer, f"UPDATE {table} SET {name} = NULL")  # noqa: S608 - ours
    assert refused(roles.sealer, f"TRUNCATE {table} CASCADE")


def test_the_application_cannot_put_the_guards_aside(roles):
    with closing(Database(roles.app)) as database, database.engine.connect() as conn:
        for statement in (
            "ALTER TABLE event DISABLE TRIGGER ALL",
            "DROP TRIGGER event_no_change ON event",
            "SET session_replication_role = replica",
            "DELETE FROM unsealed",
        ):
            with pytest.raises(ProgrammingError, match=r"must be owner|permission denied"):
                conn.execute(text(statement))
            conn.rollback()


def test_all_of_the_work_is_done_by_the_two_roles(roles, tmp_path):
    with Ledger.open(roles.app, keys=KEYS) as ledger:
        ledger.register(projects={"shop": "acme"}, rates={"acme": 50.0}, decides=True)
        intake = ledger.begin(make_order(), chunk_size=10)
        intake.add(["m1", "m2"])
        receipt = intake.finish()
        ledger.begin(make_order(Kind.USER, subject="u"), chunk_size=10).finish()
        ledger.hold(receipt.id, principal="op", reason="x")
        ledger.beat(process="p", role="steward")
        ledger.require_published(tmp_path / "audit")
    with closing(Database(roles.sealer)) as database:
        log = AuditLog(database, tmp_path)
        sealed = log.seal()
        beat(database, process="s", role="sealer")
        assert sealed.size == 4
        assert log.verify().good
        assert prune_bodies(database, below=2, principal="sealer", reason="retention") == 2
        log.seal()
        assert log.verify().good
        assert halt_all(database, principal="sealer") == ["acme"]
    with Ledger.open(roles.app, keys=KEYS) as ledger:
        (pause,) = ledger.pauses()
        assert pause.reason == "ledger_restored"


def test_the_doctor_proves_it_and_tells_of_a_role_that_may(roles, postgres_url):
    grades = {}
    for url in (roles.app, postgres_url):
        with closing(Database(url)) as database:
            found = check_guard(look_at_guard(database), sqlite=False)
            grades[url] = found.grade.value, found.says
    assert grades[roles.app] == ("ok", "This role may only add to the record.")
    assert grades[postgres_url][0] == "warn"
    assert "UPDATE event" in grades[postgres_url][1]


def test_the_doctor_tells_of_a_trigger_that_is_gone(ledger_url):
    upgrade(ledger_url)
    with closing(Database(ledger_url)) as database:
        assert look_at_guard(database).missing == []
        name = "leaf_no_update" if database.is_sqlite else "leaf_no_change ON leaf"
        database.write(lambda conn: conn.execute(text(f"DROP TRIGGER {name}")))
        assert look_at_guard(database).missing == [name.split(maxsplit=1)[0]]


def test_roles_that_make_no_sense_are_refused(postgres_url, tmp_path):
    with pytest.raises(SettingsError, match=r'no role nobody .* CREATE ROLE "nobody" LOGIN'):
        upgrade(postgres_url, app_role="nobody")
    with pytest.raises(SettingsError, match="Role expunge owns the ledger's tables"):
        upgrade(postgres_url, app_role="expunge")
    with pytest.raises(SettingsError, match="no database URL with a user"):
        upgrade(postgres_url, app_role="postgresql://host/name")
    with pytest.raises(SettingsError, match="SQLite has no roles"):
        upgrade(f"sqlite:///{tmp_path / 'x.db'}", app_role="app")


def test_a_role_that_is_missing_is_made_from_its_url(postgres_url, roles):
    name = f"it's%{roles.app[-8:]}"
    url = make_url(postgres_url).set(username=name, password="p%'w")
    for _ in range(2):
        upgrade(postgres_url, app_role=url.render_as_string(hide_password=False))
    with closing(Database(url.render_as_string(hide_password=False))) as database:
        assert look_at_guard(database).allowed == []
