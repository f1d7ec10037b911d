"""A ledger has keys of its own: whoever comes with others is refused before any harm."""

import json
from contextlib import closing

import pytest
from sqlalchemy import delete, select

from ledger import Keys, Ledger, upgrade
from ledger.engine import Database
from ledger.errors import KeysError, RequestError
from ledger.fitting import adopt_keys, are_own_keys
from ledger.macs import Macs
from ledger.schema import event_body, key_check
from tests.support.ledger_world import KEYS, make_order

OTHERS = {
    "order": Keys(order=b"x" * 32, pseudonym=KEYS.pseudonym),
    "pseudonym": Keys(order=KEYS.order, pseudonym=b"x" * 32),
}


@pytest.fixture
def ledger_url(ledger_url):
    upgrade(ledger_url)
    return ledger_url


@pytest.fixture
def database(ledger_url):
    with closing(Database(ledger_url)) as opened:
        yield opened


def hand_in(url, keys=KEYS):
    with Ledger.open(url, keys=keys) as ledger:
        ledger.register(projects={"shop": "acme"}, rates={"acme": 10})
        intake = ledger.begin(make_order(), chunk_size=10)
        intake.add(["a", "b"])
        intake.finish()


def are_own(database, keys):
    return database.read(lambda conn: are_own_keys(conn, Macs(keys)))


@pytest.mark.parametrize("other", OTHERS)
def test_the_first_keys_are_a_ledgers_own_and_others_are_refused(ledger_url, database, other):
    assert are_own(database, OTHERS[other]) is None
    hand_in(ledger_url)

    with pytest.raises(
        KeysError, match=r"is not this ledger's own: .* `expunge keys adopt"
    ) as told:
        hand_in(ledger_url, OTHERS[other])

    assert told.value.exit_code == 2
    assert (are_own(database, KEYS), are_own(database, OTHERS[other])) == (True, False)
    hand_in(ledger_url)


def test_a_ledger_from_before_there_was_a_fingerprint_is_known_by_its_requests(
    ledger_url, database
):
    hand_in(ledger_url)
    database.write(lambda conn: conn.execute(delete(key_check)))

    with pytest.raises(KeysError):
        hand_in(ledger_url, OTHERS["order"])

    assert are_own(database, OTHERS["order"]) is False
    hand_in(ledger_url)
    assert are_own(database, KEYS) is True


def test_lost_keys_are_replaced_by_a_recorded_act(ledger_url, database):
    hand_in(ledger_url)
    new = OTHERS["order"]
    with pytest.raises(RequestError):
        adopt_keys(database, Macs(new), principal="op", reason="no code at all")

    adopt_keys(database, Macs(new), principal="op", reason="keys_lost")

    hand_in(ledger_url, new)
    with pytest.raises(KeysError):
        hand_in(ledger_url)
    bodies = database.read(lambda conn: conn.execute(select(event_body.c.payload)).scalars().all())
    acts = [one for one in map(json.loads, bodies) if one["type"] == "keys.adopted"]
    assert [(one["principal"], one["reason"]) for one in acts] == [("op", "keys_lost")]


def test_two_that_open_a_new_ledger_at_once_with_different_keys_do_not_both_get_in(
    ledger_url, database, monkeypatch
):
    """The other one comes between the look and the taking."""
    real = Database.write
    others = iter([OTHERS["order"]])

    def write(self, work, **options):
        if (keys := next(others, None)) is not None:
            Ledger.open(ledger_url, keys=keys).close()
        return real(self, work, **options)

    monkeypatch.setattr("ledger.store.require_local", lambda _database: None)
    monkeypatch.setattr(Database, "write", write)
    with pytest.raises(KeysError):
        Ledger.open(ledger_url, keys=KEYS)
    assert are_own(database, OTHERS["order"]) is True
