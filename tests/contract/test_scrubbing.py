"""Forgetting: names go when nobody needs them any more, and what is left still proves."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from ledger import Keys
from ledger.audit.faults import Verdict
from ledger.audit.orders import changed_orders
from ledger.epochs import begin_epoch, destroy_epoch, list_epochs
from ledger.errors import ConflictError
from ledger.keys import write_key
from ledger.lookups import find_subjects
from ledger.macs import Macs
from ledger.schema import attempt, chunk, event_body, metadata, readback, request
from ledger.states import Kind
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS, make_order
from tests.support.other_eyes import bytes_of

CANARY = "canary-7f3a"
IDS = [f"{CANARY}-{n}" for n in range(230)]
DAY = 86_400


def scrub(world, **days):
    return world.ledger.scrub(**({"redrive_days": 14, "row_days": 90} | days))


def done(world, *, ids=IDS, **order):
    receipt = world.submit(ids, **order)
    world.run(Memos(ids))
    return receipt.id


def look(world, *names, macs=None, **options):
    macs = macs or Macs(KEYS)
    looked = find_subjects(world.database, macs, names, principal="op", **options)
    return [str(one.answer) for one in looked.known], looked


def test_names_stay_for_as_long_as_something_can_be_redriven(world):
    request_id = done(world, subject=f"{CANARY}-user", chunk_size=1)
    world.clock.tick(13 * DAY)
    assert scrub(world).scrubbed == ()
    assert world.row(request).subject == f"{CANARY}-user"
    world.clock.tick(2 * DAY)
    assert scrub(world).scrubbed == (request_id,)
    assert scrub(world).scrubbed == ()


@pytest.mark.fault("F121")
def test_no_name_is_left_anywhere_after_scrubbing(world):
    done(world, subject=f"{CANARY}-user", idempotency_key=f"{CANARY}-key", chunk_size=7)
    world.submit(kind=Kind.USER, subject=f"{CANARY}-user2")
    world.run(Memos([], subjects={f"{CANARY}-user2"}))
    world.clock.tick(61)
    world.sweep()
    world.run(Memos([]))
    world.clock.tick(15 * DAY)
    while scrub(world).more:
        pass
    assert {row.scrub for row in world.rows(request)} == {"done"}
    for table in metadata.sorted_tables:
        for row in world.rows(table):
            for column, value in row._mapping.items():
                raw = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                assert CANARY.encode() not in raw, (table.name, column)
    if world.database.is_sqlite:
        world.ledger.truncate_wal()
        for suffix in ("", "-wal", "-shm"):
            path = Path(f"{make_url(world.url).database}{suffix}")
            assert CANARY.encode() not in bytes_of(path), suffix


@pytest.mark.parametrize("worlds", ["sqlite"], indirect=True)
def test_a_file_that_is_only_deleted_from_would_show_the_names(world):
    """The search above finds what is there."""
    done(world)
    path = Path(make_url(world.url).database or "")
    assert world.ledger.truncate_wal()
    assert CANARY.encode() in bytes_of(path)


def test_what_was_never_accepted_is_scrubbed_as_soon_as_it_is_cancelled(world):
    order = make_order(subject=f"{CANARY}-user", idempotency_key="k")
    intake = world.ledger.begin(order, chunk_size=1)
    intake.add(IDS)
    world.clock.tick(2 * DAY)
    world.sweep()
    scrub(world)
    assert world.row(request).scrub == "done"
    assert {row.ids for row in world.chunks(intake.request_id)} == {"[]"}


def test_a_scrubbed_request_cannot_be_redriven_and_its_key_still_finds_it(world):
    request_id = done(world, idempotency_key="k", subject="alice")
    world.clock.tick(15 * DAY)
    scrub(world)
    with pytest.raises(ConflictError, match="cannot be redriven"):
        world.ledger.redrive(request_id, principal="op", reason="x")
    again = world.submit(IDS, idempotency_key="k", subject="alice")
    assert (again.id, again.duplicate) == (request_id, True)
    with pytest.raises(ConflictError):
        world.submit(IDS[:3], idempotency_key="k", subject="alice")


def test_orders_still_carry_their_macs_after_scrubbing_and_changed_ones_still_show(world, tmp_path):
    write_key(tmp_path / "order.key", KEYS.order.hex())
    write_key(tmp_path / "pseudonym.key", KEYS.pseudonym.hex())
    done(world)
    other = done(world, ids=["x", "y"])
    world.sql("UPDATE request SET verify = 'none' WHERE id = :id", id=other)
    world.clock.tick(15 * DAY)
    scrub(world)
    verdict = Verdict()
    assert changed_orders(world.database, tmp_path, verdict).good == 1
    assert other in verdict.faults[0].says


def test_rows_of_calls_and_chunks_go_later_and_the_request_stays(world):
    request_id = done(world, chunk_size=3)
    counts = world.view(request_id).counts
    world.clock.tick(15 * DAY)
    scrub(world)
    assert world.rows(attempt)
    world.clock.tick(76 * DAY)
    scrub(world)
    assert [world.rows(table) for table in (attempt, chunk, readback)] == [[], [], []]
    assert world.view(request_id).counts == counts


def test_a_name_is_found_before_and_after_its_scrubbing(world):
    world.submit(kind=Kind.USER, subject="alice")
    assert look(world, "alice", "bob")[0] == ["under_way", "not_known"]
    world.run(Memos([], subjects={"alice"}))
    done(world, ids=["m"], subject="carol")
    for _ in range(2):
        answers, looked = look(world, "alice", "bob", "carol", "alice")
        assert answers == ["erased", "not_known", "named", "erased"]
        assert looked.known[0].certainty == "verified"
        world.clock.tick(15 * DAY)
        scrub(world)
    assert look(world, "alice", projects=["far"])[0] == ["not_known"]
    assert look(world, "alice", agents=True)[0] == ["not_known"]
    bodies = [bytes(row.payload) for row in world.rows(event_body)]
    assert any(b"subjects.looked_up" in body for body in bodies)
    assert not any(b"alice" in body for body in bodies)


@pytest.mark.fault("F122")
def test_a_destroyed_key_takes_the_answer_with_it_and_leaves_the_others(world, tmp_path):
    Keys.create(tmp_path / "keys")
    keys_dir = tmp_path / "keys"

    def macs():
        return Macs(Keys.load(keys_dir))

    def erase(name):
        world.ledger._macs = macs()
        world.submit(kind=Kind.USER, subject=name, idempotency_key=name)
        world.run(Memos([], subjects={name}))

    why = {"principal": "op", "reason": "x"}
    erase("alice")
    assert begin_epoch(world.database, keys_dir=keys_dir, **why) == 2
    erase("bob")
    assert look(world, "alice", "bob", macs=macs())[0] == ["erased", "erased"]
    with pytest.raises(ConflictError, match="still have their names"):
        destroy_epoch(world.database, keys_dir=keys_dir, no=1, **why)
    with pytest.raises(ConflictError, match="in force"):
        destroy_epoch(world.database, keys_dir=keys_dir, no=2, **why)
    world.clock.tick(15 * DAY)
    scrub(world)
    assert destroy_epoch(world.database, keys_dir=keys_dir, no=1, **why) == 1
    answers, looked = look(world, "alice", "bob", macs=macs())
    assert answers == ["not_known", "erased"]
    assert looked.untold == [1]
    (first, second) = list_epochs(world.database, Keys.load(keys_dir))
    assert (first.key, first.destroyed_at is not None, second.in_force) == (False, True, True)
    verdict = Verdict()
    assert changed_orders(world.database, keys_dir, verdict).good == 2
    assert verdict.good


def test_a_look_can_be_bounded_to_what_ended_since(world):
    world.submit(kind=Kind.USER, subject="alice")
    world.run(Memos([], subjects={"alice"}))
    ended = world.view(world.row(request).id).finished_at
    assert look(world, "alice", since=ended)[0] == ["erased"]
    assert look(world, "alice", since=ended + timedelta(seconds=1))[0] == ["not_known"]


def test_an_order_that_is_still_carried_out_is_as_it_was_ordered(world, tmp_path):
    """Checking the record must not take what is under way for changed."""
    write_key(tmp_path / "order.key", KEYS.order.hex())
    write_key(tmp_path / "pseudonym.key", KEYS.pseudonym.hex())
    world.submit(kind=Kind.USER, subject="alice")
    world.submit(IDS)
    verdict = Verdict()
    assert changed_orders(world.database, tmp_path, verdict).good == 2
    assert verdict.good
