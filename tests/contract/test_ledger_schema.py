"""The schema: what the migrations make is what the code expects, and refuses impossible rows."""

import os
import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from ledger import Ledger, migrate, upgrade
from ledger.engine import Database
from ledger.errors import LedgerError, SchemaError, SettingsError
from ledger.schema import metadata
from tests.support.ledger_world import KEYS

HEAD = "0008"


def tables_of(url):
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def set_revision(url, revision):
    database = Database(url)
    database.write(
        lambda conn: conn.execute(
            text("UPDATE alembic_version SET version_num = :r"), {"r": revision}
        )
    )
    database.close()


def test_the_migrations_make_what_the_code_describes(ledger_url):
    upgrade(ledger_url)
    database = Database(ledger_url)
    try:
        with database.engine.connect() as conn:
            context = MigrationContext.configure(conn, opts={"compare_type": True})
            found = compare_metadata(context, metadata)
            looking = inspect(conn)
            for table in metadata.sorted_tables:
                expected = {c.name for c in table.constraints if isinstance(c, CheckConstraint)}
                made = {c["name"] for c in looking.get_check_constraints(table.name)}
                assert made == expected, table.name
                indexes = {index["name"] for index in looking.get_indexes(table.name)}
                assert {index.name for index in table.indexes} <= indexes
    finally:
        database.close()
    assert found == []


def test_upgrading_twice_is_harmless(ledger_url):
    assert upgrade(ledger_url) == upgrade(ledger_url) == HEAD
    Ledger.open(ledger_url, keys=KEYS).close()


def test_hosts_that_upgrade_at_the_same_moment_all_succeed(ledger_url):
    start, found = threading.Barrier(3), []

    def run():
        start.wait(10)
        found.append(upgrade(ledger_url))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [HEAD] * 3


def test_a_mistyped_path_says_what_to_correct_and_makes_no_file(tmp_path):
    path = tmp_path / "no" / "such.db"
    with pytest.raises(SchemaError, match=r"no file where EXPUNGE_LEDGER_URL says; correct it, or"):
        Ledger.open(f"sqlite:///{path}", keys=KEYS)
    path.parent.mkdir()
    with (
        closing(Database(f"sqlite:///{path}")) as database,
        pytest.raises(LedgerError, match=r"file cannot be opened"),
    ):
        database.read(lambda conn: conn.execute(text("SELECT 1")))
    assert list(path.parent.iterdir()) == []


def test_a_ledger_without_tables_says_which_command_makes_them(ledger_url):
    with pytest.raises(SchemaError, match=r"no tables yet; run `expunge db upgrade`"):
        Ledger.open(ledger_url, keys=KEYS)


def test_a_ledger_of_a_newer_release_says_what_to_upgrade(ledger_url):
    upgrade(ledger_url)
    set_revision(ledger_url, "9999")
    with pytest.raises(SchemaError, match=r"9999, which is newer .* upgrade this installation"):
        Ledger.open(ledger_url, keys=KEYS)


def test_a_ledger_of_an_older_release_says_which_command_upgrades_it(
    ledger_url, tmp_path, monkeypatch
):
    upgrade(ledger_url)
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(migrate.__file__).with_name("migrations"), scripts)
    (scripts / "versions" / "9998_next.py").write_text(
        'revision = "9998"\n'
        f'down_revision = "{HEAD}"\nbranch_labels = depends_on = None\n'
        "def upgrade() -> None:\n    pass\n"
    )
    monkeypatch.setattr(migrate, "_SCRIPTS", scripts)
    with pytest.raises(SchemaError, match=rf"at revision {HEAD}, this release needs 9998; run `ex"):
        Ledger.open(ledger_url, keys=KEYS)
    assert upgrade(ledger_url) == "9998"
    Ledger.open(ledger_url, keys=KEYS).close()


@pytest.mark.parametrize("statements", [1, 5, 15])
def test_a_migration_that_ends_half_way_leaves_nothing(
    ledger_url, tmp_path, monkeypatch, statements
):
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(migrate.__file__).with_name("migrations"), scripts)
    for file in (scripts / "sql").iterdir():
        whole = file.read_text().split(";\n")
        file.write_text(";\n".join([*whole[:statements], "SELECT no_such_function()"]) + ";\n")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_SCRIPTS", scripts)
        with pytest.raises(LedgerError):
            upgrade(ledger_url)
    assert tables_of(ledger_url) == set()
    assert upgrade(ledger_url) == HEAD


@pytest.mark.parametrize("url", ["no url", "mysql://h/d", "oracle://h/d"])
def test_another_database_is_refused_by_name_of_the_setting_or_the_kind(url):
    with pytest.raises(SettingsError, match=r"EXPUNGE_LEDGER_URL|sqlite or postgresql"):
        Database(url)


def test_a_file_that_is_no_database_is_a_ledger_error(tmp_path):
    (tmp_path / "x.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(LedgerError):
        Ledger.open(f"sqlite:///{tmp_path / 'x.db'}", keys=KEYS)


# -- one row that each constraint refuses ---------------------------------------------------------

REQUEST_CHANGES = {
    "kind_known": "kind = 'everything'",
    "lane_known": "lane = 'fast'",
    "state_known": "state = 'done'",
    "result_known": "result = 'fine', state = 'complete', finished_at = 1, pending = 0,"
    " verified_absent = 20",
    "certainty_known": "certainty = 'sure'",
    "final_has_end": "state = 'complete', pending = 0, verified_absent = 20",
    "end_has_result": "result = 'complete'",
    "counts_add_up": "pending = 19",
    "counts_not_negative": "pending = 21, refused = -1",
    "closed_has_mac": "closing_mac = NULL",
    "final_has_nothing_pending": "state = 'partial', result = 'partial', finished_at = 1",
    "second_look_known": "second_look = 'soon'",
    "scrub_known": "scrub = 'soon'",
    "scrubbed_has_no_name": "scrub = 'begun'",
}
CHUNK_CHANGES = {
    "state_known": "state = 'gone'",
    "chunk_not_empty": "n = 0",
    "lease_only_when_leased": "lease_until_ns = 5",
    "dispute_known": "disputed = 'sure'",
}
READBACK_CHANGES = {
    "readback_kind_known": "kind = 'search'",
    "readback_purpose_known": "purpose = 'fun'",
    "readback_state_known": "state = 'gone'",
    "readback_names_its_id": "kind = 'list'",
    "done_has_sight": "state = 'done'",
    "sight_known": "state = 'done', sight = 'perhaps'",
}
ATTEMPT_CHANGES = {
    "call_known": "\"call\" = 'search'",
    "attempt_of_one_thing": "readback_id = 1",
}
CHANGES = [
    *(("request", *change) for change in REQUEST_CHANGES.items()),
    *(("chunk", *change) for change in CHUNK_CHANGES.items()),
    *(("readback", *change) for change in READBACK_CHANGES.items()),
    *(("attempt", *change) for change in ATTEMPT_CHANGES.items()),
    ("clock", "one_row", "id = 2"),
    ("key_check", "one_row", "id = 2"),
    ("account", "interval_positive", "interval_ns = 0"),
    ("account", "stop_has_reason", "paused = 1"),
    ("project", "break_has_reason", "broken_at = 1"),
    ("project", "pause_has_reason", "paused = 1"),
]


def test_every_constraint_has_a_row_that_it_refuses():
    named = {
        (table.name, constraint.name)
        for table in metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert named == {(table, name) for table, name, _ in CHANGES}


def test_impossible_rows_are_refused_by_the_database(world):
    receipt = world.submit([f"m{n}" for n in range(20)])
    world.claim_one()
    world.sql(
        "INSERT INTO readback (request_id, generation, account, project, lane, urgency, kind,"
        " purpose, item, state)"
        " VALUES (:id, 1, 'acme', 'shop', 'bulk', 0, 'id', 'verify', 0, 'due')",
        id=receipt.id,
    )
    world.sql("INSERT INTO key_check (id, fingerprint) VALUES (1, 'f')")
    for table, name, change in CHANGES:
        where = " WHERE state = 'due'" if table == "chunk" else ""
        with pytest.raises(IntegrityError, match=name), world.database.engine.begin() as conn:
            conn.execute(text(f"UPDATE {table} SET {change}{where}"))  # noqa: S608 - ours


def test_rows_that_clash_or_point_nowhere_are_refused(world):
    receipt = world.submit([f"m{n}" for n in range(20)], idempotency_key="k")
    other = world.submit(["x"])
    known = "(SELECT idempotency_ref FROM request AS r WHERE r.idempotency_ref IS NOT NULL)"
    assert receipt.id != other.id
    for statement in (
        "UPDATE chunk SET no = 0",
        "UPDATE chunk SET request_id = 'nobody'",
        "UPDATE project SET account = 'nobody' WHERE name = 'shop'",
        f"UPDATE request SET idempotency_ref = {known}",  # noqa: S608 - ours
        "INSERT INTO event_body (event, payload, salt) VALUES ('nobody', '', '')",
    ):
        with pytest.raises(IntegrityError), world.database.engine.begin() as conn:
            conn.execute(text(statement))


def test_a_new_ledger_file_and_its_folders_are_their_owners_alone(tmp_path):
    path = tmp_path / "var" / "expunge" / "expunge.db"
    before = os.umask(0o022)
    try:
        upgrade(f"sqlite:///{path}")
        Ledger.open(f"sqlite:///{path}", keys=KEYS).close()
    finally:
        os.umask(before)
    modes = {
        each.name: each.stat().st_mode & 0o777 for each in (path, path.parent, tmp_path / "var")
    }
    assert modes == {"expunge.db": 0o600, "expunge": 0o700, "var": 0o700}
