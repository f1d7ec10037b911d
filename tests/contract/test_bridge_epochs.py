"""A pseudonym key comes into force that a bridge does not have yet: its messages wait for it."""

import pytest

from ledger import Keys, Ledger
from ledger.epochs import begin_epoch
from ledger.errors import KeysError
from ledger.keys import write_key
from ledger.schema import request
from ledger.states import Kind
from ledger.streams import Stream
from producer import Producer
from producer.bridge import run_bridge
from producer.many import SmallRequest
from tests.contract.bridge_world import STREAM, Bridges, Stop, an_event
from tests.support.homes import make_home
from tests.support.ledger_world import KEYS

ACT = {"principal": "op", "reason": "x"}


@pytest.fixture
def bridges(world, valkey, tmp_path):
    made = Bridges(world, valkey, tmp_path)
    for folder in (made.settings.keys_dir, tmp_path / "elsewhere"):
        folder.mkdir()
        write_key(folder / "order.key", KEYS.order.hex())
        write_key(folder / "pseudonym.key", KEYS.pseudonym.hex())
    with made.redis, made.producer:
        yield made


def test_messages_wait_for_the_key_and_go_in_once_it_is_brought(bridges, tmp_path):
    bridges.send(an_event(1), an_event(2, {"memory_ids": ["m1"]}))
    begin_epoch(bridges.world.database, keys_dir=tmp_path / "elsewhere", **ACT)
    with bridges.pump(stop=Stop(after=3)) as pump:
        pump.run()
    assert (bridges.requests(), bridges.parked(), bridges.pending()) == ([], [], 2)
    new = tmp_path / "elsewhere" / "subjects.1.key"
    new.rename(bridges.settings.keys_dir / new.name)
    bridges.drain(source=bridges.source(claim_idle_s=0.0))
    assert [row.key_epoch for row in bridges.requests()] == [1, 1]


def test_a_bridge_without_the_key_in_force_does_not_start(tmp_path):
    settings = make_home(tmp_path)
    with Producer(settings) as producer:
        producer.purge_user("alice")
    (settings.keys_dir / "subjects.1.key").unlink()
    with pytest.raises(KeysError, match=r"subjects\.1\.key is not in"):
        run_bridge(settings, [Stream(name=STREAM)], stop=Stop())


@pytest.mark.parametrize("many", [False, True])
def test_a_producer_reads_a_key_that_was_brought_while_it_was_open(tmp_path, many):
    settings = make_home(tmp_path)
    with Producer(settings) as producer:
        producer.purge_user("alice")
        with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
            begin_epoch(ledger._database, keys_dir=settings.keys_dir, **ACT)
            if many:
                producer.hand_in_many([small("bob")])
            else:
                producer.purge_user("bob")
            query = request.select().order_by(request.c.key_epoch)
            rows = ledger._database.read(lambda conn: conn.execute(query).all())
    assert [row.key_epoch for row in rows] == [1, 2]


def small(name):
    return SmallRequest(kind=Kind.USER, subject=name, memory_ids=(), project="default")
