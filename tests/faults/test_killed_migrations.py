"""A migration is killed half-way: what is there is the old schema or the new one, never half."""

import subprocess
import sys
from contextlib import closing, contextmanager

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect

from ledger import Keys, Ledger
from ledger import migrate as ledger_migrate
from ledger.engine import Database
from ledger.errors import SchemaError
from ledger.migrate import upgrade
from ledger.schema import metadata

pytestmark = pytest.mark.fault("F46")

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)


@pytest.fixture(params=["no tables", "0001", "0002"])
def old(request, ledger_url):
    """The URL of a ledger of an earlier release, or of none."""
    if request.param != "no tables":
        config = Config()
        config.set_main_option("script_location", str(ledger_migrate._SCRIPTS))
        with closing(Database(ledger_url)) as database:
            config.attributes["clock_source"] = database.clock.source

            def work(conn):
                config.attributes["connection"] = conn
                command.upgrade(config, request.param)

            database.write(work)
    return ledger_url


@contextmanager
def migrating():
    """Give a function that migrates in a process that kills itself before one statement."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.kill_upgrade"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as forker:
        told, said = forker.stdin, forker.stdout
        assert told is not None
        assert said is not None

        def migrate(url, at):
            told.write(f"{url} {at}\n")
            told.flush()
            return said.readline().strip()

        yield migrate
        told.close()


def tables_of(url):
    with closing(Database(url)) as database:
        found = inspect(database.engine)
        return {
            table: sorted(column["name"] for column in found.get_columns(table))
            for table in found.get_table_names()
        }


@pytest.mark.parametrize(
    ("points", "every"),
    [
        pytest.param(3, 6, id="3 points"),
        pytest.param(50, 1, id="50 points", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_a_migration_killed_anywhere_leaves_the_old_schema_and_can_be_run_again(old, points, every):
    before = tables_of(old)
    killed = 0
    with migrating() as migrate:
        # Up to so many different statements; each kill finds what the last one left.
        at = 1
        while killed < points:
            said = migrate(old, at)
            if said != "killed":
                assert said.isdigit(), said
                break
            killed += 1
            assert tables_of(old) == before, at
            with pytest.raises(SchemaError, match="expunge db upgrade"):
                Ledger.open(old, keys=KEYS)
            at += every
    assert killed >= min(points, 15)
    upgrade(old)
    there = tables_of(old)
    del there["alembic_version"]
    assert there == {
        table.name: sorted(column.name for column in table.columns)
        for table in metadata.sorted_tables
    }
    Ledger.open(old, keys=KEYS).close()
