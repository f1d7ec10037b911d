"""New requests are recorded under the pseudonym key in force, on every host, or not at all."""

import shutil
from contextlib import closing

import pytest
from sqlalchemy import delete, select, update

from ledger import Keys, Kind, Ledger, upgrade
from ledger.engine import Database
from ledger.epochs import begin_epoch, destroy_epoch, list_epochs
from ledger.errors import ConflictError, KeysError
from ledger.lookups import find_subjects
from ledger.macs import Macs
from ledger.schema import event, key_epoch, request
from ledger.states import Sight
from ledger.tasks import Seen
from ledger.walks import Walk
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import make_order, settled

ACT = {"principal": "op", "reason": "x"}


@pytest.fixture
def ledger_url(ledger_url):
    upgrade(ledger_url)
    return ledger_url


@pytest.fixture
def database(ledger_url):
    with closing(Database(ledger_url)) as opened:
        yield opened


@pytest.fixture
def hosts(tmp_path):
    """Two hosts with the same keys: directories."""
    Keys.create(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    return tmp_path / "one", tmp_path / "two"


def opened(url, folder):
    ledger = Ledger.open(url, keys=Keys.load(folder))
    ledger.register(projects={"shop": "acme"}, rates={"acme": 10})
    return ledger


def ways(ledger, **fields):
    """All ways in, each by its name."""
    purge = make_order(Kind.USER, subject="alice", **fields)
    return {
        "purge": lambda: ledger.begin(purge, chunk_size=10).finish(),
        "batch": lambda: batch(ledger, **fields),
        "many": lambda: ledger.take_many([(purge, ())], chunk_size=10),
        "key": lambda: batch(ledger, idempotency_key="a key"),
    }


def batch(ledger, **fields):
    intake = ledger.begin(make_order(**fields), chunk_size=10)
    intake.add(["a", "b"])
    return intake.finish()


def hand_in(url, folder, way="purge"):
    with opened(url, folder) as ledger:
        return ways(ledger)[way]()


def rows(database, table):
    return database.read(lambda conn: conn.execute(select(table)).all())


def forgotten(folder, *epochs):
    for no in epochs:
        (folder / f"subjects.{no}.key").unlink()


WAYS = ("purge", "batch", "many", "key")


@pytest.mark.parametrize("way", WAYS)
def test_a_host_without_the_key_in_force_records_nothing_and_says_which_file(
    ledger_url, database, hosts, way
):
    hand_in(ledger_url, hosts[0])
    forgotten(hosts[1], 1)
    before = rows(database, request), rows(database, event)

    with pytest.raises(KeysError, match=r"subjects\.1\.key is not in .*Copy it") as told:
        hand_in(ledger_url, hosts[1], way)

    assert "keys new-epoch" in str(told.value)
    assert (rows(database, request), rows(database, event)) == before
    shutil.copy(hosts[0] / "subjects.1.key", hosts[1])
    hand_in(ledger_url, hosts[1], way)
    assert {row.key_epoch for row in rows(database, request)} == {1}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_was_destroyed_elsewhere_records_nothing_and_can_be_destroyed_here(
    ledger_url, database, hosts, way
):
    with opened(ledger_url, hosts[0]):
        begin_epoch(database, keys_dir=hosts[0], **ACT)
        destroy_epoch(database, keys_dir=hosts[0], no=1, **ACT)

    with pytest.raises(KeysError, match=r"subjects\.2\.key is not in"):
        hand_in(ledger_url, hosts[1], way)

    assert rows(database, request) == []
    with pytest.raises(ConflictError, match="in force"):
        destroy_epoch(database, keys_dir=hosts[0], no=2, **ACT)
    assert destroy_epoch(database, keys_dir=hosts[1], no=1, **ACT) == 0
    assert not (hosts[1] / "subjects.1.key").exists()
    hand_in(ledger_url, hosts[0], way)


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_runs_goes_over_to_a_new_key_and_until_then_records_nothing(
    ledger_url, database, hosts, way
):
    with opened(ledger_url, hosts[1]) as ledger:
        ways(ledger)["purge"]()
        begin_epoch(database, keys_dir=hosts[0], **ACT)

        with pytest.raises(KeysError, match=r"subjects\.2\.key"):
            ways(ledger)[way]()

        assert len(rows(database, request)) == 1
        shutil.copy(hosts[0] / "subjects.2.key", hosts[1])
        ledger.renew(Keys.load(hosts[1]))
        ways(ledger)[way]()
    assert sorted(row.key_epoch for row in rows(database, request)) == [1, 2]


def test_what_was_begun_under_a_key_may_end_after_the_next_one_has_begun(
    ledger_url, database, hosts
):
    with opened(ledger_url, hosts[1]) as ledger:
        intake = ledger.begin(make_order(idempotency_key="k"), chunk_size=1)
        begin_epoch(database, keys_dir=hosts[0], **ACT)
        intake.add(["a", "b"])
        receipt = intake.finish()
        with pytest.raises(ConflictError, match="still have their names"):
            destroy_epoch(database, keys_dir=hosts[0], no=1, **ACT)
        again = ledger.begin(make_order(idempotency_key="k"), chunk_size=1)
        again.add(["a", "b"])
        assert (again.finish().id, receipt.duplicate) == (receipt.id, False)


def test_a_ledger_from_before_goes_on_under_the_newest_key_of_its_requests(
    ledger_url, database, hosts
):
    hand_in(ledger_url, hosts[0])
    database.write(lambda conn: conn.execute(delete(key_epoch)))
    forgotten(hosts[1], 1)

    with pytest.raises(KeysError, match=r"subjects\.1\.key"):
        hand_in(ledger_url, hosts[1])

    hand_in(ledger_url, hosts[0])
    assert [(row.no, row.began_at) for row in rows(database, key_epoch)] == [(1, 0)]


def test_an_installation_older_than_epochs_goes_on_and_begins_its_first(
    ledger_url, database, hosts
):
    for host in hosts:
        forgotten(host, 1)
        hand_in(ledger_url, host)
    database.write(lambda conn: conn.execute(delete(key_epoch)))
    hand_in(ledger_url, hosts[0])
    assert begin_epoch(database, keys_dir=hosts[0], **ACT) == 1
    hand_in(ledger_url, hosts[0])
    assert [row.key_epoch for row in rows(database, request)].count(0) == 3
    with pytest.raises(KeysError, match=r"subjects\.1\.key"):
        hand_in(ledger_url, hosts[1])


def test_a_ledger_put_back_from_before_an_epoch_learns_of_it_from_the_keys(
    ledger_url, database, hosts
):
    hand_in(ledger_url, hosts[0])
    with opened(ledger_url, hosts[0]) as ledger:
        begin_epoch(database, keys_dir=hosts[0], **ACT)
        ledger.renew(Keys.load(hosts[0]))
        database.write(lambda conn: conn.execute(delete(key_epoch).where(key_epoch.c.no == 2)))
        ways(ledger)["purge"]()
    assert max(row.no for row in rows(database, key_epoch)) == 2


def test_when_the_newest_key_was_destroyed_the_next_has_to_begin(ledger_url, database, hosts):
    hand_in(ledger_url, hosts[0])
    gone = update(key_epoch).values(destroyed_at=1)
    database.write(lambda conn: conn.execute(gone))
    with pytest.raises(KeysError, match=r"epoch 1 was destroyed, .* `expunge keys new-epoch`"):
        hand_in(ledger_url, hosts[0])
    (one,) = list_epochs(database, Keys.load(hosts[0]))
    assert not one.in_force
    assert begin_epoch(database, keys_dir=hosts[0], **ACT) == 2
    hand_in(ledger_url, hosts[0])


def test_a_host_without_the_key_says_that_it_cannot_tell_and_which_is_in_force(
    ledger_url, database, hosts
):
    hand_in(ledger_url, hosts[0])
    forgotten(hosts[1], 1)
    keys = Keys.load(hosts[1])
    looked = find_subjects(database, Macs(keys), ["alice"], principal="op")
    assert looked.untold == [1]
    assert [(one.no, one.key, one.in_force) for one in list_epochs(database, keys)] == [
        (1, False, True)
    ]


@pytest.mark.parametrize("has", [True, False], ids=["that of the purge", "none"])
def test_what_a_second_look_finds_is_ordered_by_a_worker_without_the_key_in_force(
    world, hosts, has
):
    """Its worker may be started before the key is brought, and the deletion does not wait."""
    world.ledger._macs = Macs(Keys.load(hosts[0]))
    receipt = world.submit(kind=Kind.USER, subject="bob")
    world.run(Memos([], subjects={"bob"}))
    begin_epoch(world.database, keys_dir=hosts[0], **ACT)
    if not has:
        forgotten(hosts[1], 1)
    world.ledger._macs = Macs(Keys.load(hosts[1]))
    world.clock.tick(61)
    world.sweep()
    task = world.claim_one()
    there = Seen(sight=Sight.PRESENT, walk=Walk(present=frozenset({"came back"})))
    for request_id in world.record(settled(task, there)):
        world.advance(request_id)
    world.sweep()
    world.run(Memos(["came back"]))
    (child,) = world.rows(request, request.c.follows == receipt.id)
    purge = world.rows(request, request.c.id == receipt.id)[0]
    assert (child.key_epoch, child.subject_ref) == (1, purge.subject_ref)
    assert world.view(child.id).result is not None
    macs = Macs(Keys.load(hosts[0]))
    found = find_subjects(world.database, macs, ["bob"], principal="op").known
    assert {one.request for one in found} == {receipt.id, child.id}
