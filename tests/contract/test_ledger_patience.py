"""A PostgreSQL that keeps still is not waited for; a walk of many statements has its time."""

import time
from contextlib import closing

import pytest
from sqlalchemy import text

from ledger.engine import Database
from ledger.errors import LedgerError

PATIENCE_S = 1.0
STATEMENTS = 6


@pytest.fixture
def database(postgres_url, monkeypatch):
    monkeypatch.setattr("ledger.engine._TRIES", 1)
    with closing(Database(postgres_url)) as made:
        assert made._patience is not None
        made._patience.seconds = PATIENCE_S
        yield made


def walk(conn):
    """Take three times the patience in all, and a half of it for each statement and each rest."""
    for _ in range(STATEMENTS):
        conn.execute(text("SELECT pg_sleep(0.3)"))
        time.sleep(0.2)
    return STATEMENTS


def test_a_transaction_has_one_time_and_a_long_walk_has_it_for_each_statement(database):
    with pytest.raises(LedgerError, match="did not confirm"):
        database.read(walk)

    assert database.read_long(walk) == STATEMENTS


def test_a_long_walk_whose_server_keeps_still_is_cut_all_the_same(database):
    began = time.monotonic()

    with pytest.raises(LedgerError, match="did not confirm"):
        database.read_long(lambda conn: conn.execute(text("SELECT pg_sleep(60)")))

    assert time.monotonic() - began < 30
