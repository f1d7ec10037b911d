"""Rows of requests are held against what was recorded of them: whoever changes one is found out."""

import pytest

from ledger import Keys
from ledger.audit.faults import Kind as Fault
from ledger.audit.faults import Verdict
from ledger.audit.orders import OrderKeys, changed_orders
from ledger.audit.pruning import prune_bodies
from ledger.epochs import begin_epoch, destroy_epoch
from ledger.fitting import require_own_keys
from ledger.keys import write_key
from ledger.lookups import find_subjects
from ledger.macs import Macs
from ledger.schema import request
from ledger.states import Kind, Sight
from ledger.tasks import Dead, Seen
from ledger.walks import Walk
from tests.support.audit_log import AuditLog
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS, make_order

DAY = 86_400
WHY = {"principal": "op", "reason": "x"}
IDS = ["m1", "m2", "m3"]
LATER = Seen(sight=Sight.ABSENT, walk=Walk(later=frozenset({"x", "y"})))


@pytest.fixture
def log(world, tmp_path):
    return AuditLog(world.database, tmp_path / "log")


def purge(world, name="alice"):
    receipt = world.submit(kind=Kind.USER, subject=name)
    world.run(Memos([], subjects={name}))
    return receipt.id


def failed(world):
    receipt = world.submit(IDS, verify="none")
    world.run(lambda _task: Dead(bucket="refused"))
    return receipt.id


def told(log):
    return [(fault.kind, fault.says) for fault in log.verify().faults]


def test_rows_agree_with_their_events_through_all_that_can_become_of_a_request(world, log):
    """Ended, redriven, looked at again, cancelled, never handed in whole, scrubbed, under way."""
    purge(world)
    redriven = failed(world)
    world.ledger.redrive(redriven, **WHY)
    log.seal()
    assert told(log) == []  # the first generation's end is sealed, and the second has none yet
    world.run(Memos(IDS))
    world.clock.tick(61)
    world.sweep()
    world.run(lambda _task: LATER)
    world.sweep()
    cancelled = world.submit(IDS).id
    world.ledger.cancel(cancelled, policy=world.policy, **WHY)
    for _ in range(2):
        stream = world.ledger.begin(make_order(), chunk_size=1)
        stream.add([f"s{n}" for n in range(1_000)])
    stream.abandon()
    failed(world)
    log.seal()
    assert told(log) == []
    world.clock.tick(15 * DAY)
    world.ledger.scrub(redrive_days=14, row_days=14)
    world.submit(IDS, subject="bob")
    assert told(log) == []
    rows = world.rows(request)
    assert {row.scrub for row in rows} == {"done", None}
    assert {row.generation for row in rows} == {1, 2}
    assert {(row.second_look, row.later) for row in rows} == {("absent", 2), (None, 0)}
    never = {row.state for row in rows if row.closing_mac is None}
    assert never == {"receiving", "cancelled"}


CHANGES = {
    "certainty": "certainty = 'acknowledged'",
    "state, result": "result = 'partial', state = 'partial'",
    "finished_at": "finished_at = finished_at + 86400000000",
    "subject_ref": "subject_ref = :ref",
    "project": "project = 'blog'",
    "principal": "principal = 'nobody'",
    "verified_absent, acknowledged": "verified_absent = 0, acknowledged = 1",
    "generation": "generation = 2",
    "tampered": "tampered = 1",
    "closing_mac": "closing_mac = :mac",
    "created_at": "created_at = created_at - 1",
}


@pytest.mark.parametrize("columns", CHANGES)
def test_a_row_that_says_other_than_its_events_is_named(world, log, columns):
    request_id, other = purge(world), purge(world, "bob")
    log.seal()
    assert log.verify().compared == 4
    world.sql(
        f"UPDATE request SET {CHANGES[columns]} WHERE id = :id",  # noqa: S608 - of the list above
        id=request_id,
        **({"ref": "0" * 64} if "ref" in columns else {}),
        **({"mac": b"0" * 32} if "mac" in columns else {}),
    )

    verdict = log.verify()
    assert {fault.kind for fault in verdict.faults} == {Fault.REQUEST_DIFFERS}
    says = " ".join(fault.says for fault in verdict.faults)
    assert request_id in says
    assert other not in says
    assert all(column in says for column in columns.split(", "))
    assert verdict.log_is_whole


def test_a_row_that_is_gone_is_named(world, log):
    request_id = purge(world)
    purge(world, "bob")
    log.seal()
    world.tamper(
        "DELETE FROM readback",
        "DELETE FROM attempt",
        "DELETE FROM chunk",
        "DELETE FROM request WHERE id = :id",
        id=request_id,
    )

    assert told(log) == [
        (Fault.REQUEST_MISSING, f"Request {request_id} was accepted, and its row is missing.")
    ]


def test_an_end_that_was_never_reached_is_named(world, log):
    """Open by its events, and erased by its row: what `expunge find` would repeat."""
    redriven = failed(world)
    world.ledger.redrive(redriven, **WHY)
    first = world.submit(kind=Kind.USER, subject="alice").id
    log.seal()
    ended = (
        "UPDATE request SET state = 'complete', result = 'complete', certainty = 'verified',"
        " finished_at = created_at, verified_absent = unique_ids, pending = 0, refused = 0"
    )
    world.sql(ended)
    looked = find_subjects(world.database, Macs(KEYS), ["alice"], principal="op")
    assert [str(one.answer) for one in looked.known] == ["erased"]

    says = [text for kind, text in told(log) if kind is Fault.REQUEST_DIFFERS]
    assert len(says) == 2
    assert any(first in one and "no end of it is recorded" in one for one in says)
    assert any(redriven in one and "finished_at" in one for one in says)


def test_an_older_end_cannot_be_put_in_the_place_of_the_last_one(world, log):
    request_id = failed(world)
    (before,) = world.rows(request)
    world.ledger.redrive(request_id, **WHY)
    world.run(Memos(IDS))
    log.seal()
    world.sql(
        "UPDATE request SET generation = 1, state = 'failed', result = 'failed',"
        " certainty = :certainty, refused = 3, acknowledged = 0, already_absent = 0,"
        " verified_absent = 0, finished_at = :at",
        certainty=before.certainty,
        at=before.finished_at,
    )

    assert told(log) == [
        (
            Fault.REQUEST_DIFFERS,
            f"The row of request {request_id} says other than was recorded of it (generation).",
        )
    ]


def test_a_request_that_nobody_handed_in_is_named(world, log):
    request_id = purge(world)
    log.seal()
    columns = [column.name for column in request.c if column.name not in ("id", "idempotency_ref")]
    names = ", ".join(columns)
    forge = f"INSERT INTO request (id, {names}) SELECT 'forged', {names} FROM request"  # noqa: S608 - our names
    world.sql(forge)

    found = told(log)
    assert {kind for kind, _ in found} == {Fault.REQUEST_DIFFERS}
    assert all("forged" in says and request_id not in says for _, says in found)


def test_a_reference_goes_with_its_key_and_never_alone(world, log, tmp_path):
    keys_dir = tmp_path / "keys"
    Keys.create(keys_dir)
    world.ledger._macs = Macs(Keys.load(keys_dir))
    request_id = purge(world)
    begin_epoch(world.database, keys_dir=keys_dir, **WHY)
    world.clock.tick(15 * DAY)
    world.ledger.scrub(redrive_days=14, row_days=90)
    log.seal()
    assert told(log) == []
    world.sql("UPDATE request SET subject_ref = NULL")
    ((kind, says),) = told(log)
    assert kind is Fault.REQUEST_DIFFERS
    assert request_id in says
    assert "keys destroy-epoch" in says

    destroy_epoch(world.database, keys_dir=keys_dir, no=1, **WHY)
    assert told(log) == []


def test_what_was_pruned_is_not_compared_and_its_request_has_to_be_there(world, log):
    request_id = purge(world)
    log.seal()
    size = log.verify().leaves
    prune_bodies(world.database, below=size, **WHY)
    world.sql("UPDATE request SET certainty = 'acknowledged'")
    verdict = log.verify()
    assert (verdict.good, verdict.compared) == (True, 0)

    world.tamper("DELETE FROM readback", "DELETE FROM attempt", "DELETE FROM chunk")
    world.tamper("DELETE FROM request")
    ((kind, says),) = told(log)
    assert kind is Fault.REQUEST_MISSING
    assert request_id in says


def test_more_rows_than_are_looked_up_at_once_are_all_compared(world, log, monkeypatch):
    monkeypatch.setattr("ledger.audit.requests._AT_ONCE", 3)
    ids = {purge(world, f"u{n}") for n in range(5)}
    log.seal()
    assert log.verify().compared == 10
    world.sql("UPDATE request SET certainty = 'acknowledged'")
    says = " ".join(text for _, text in told(log))
    assert all(one in says for one in ids)


@pytest.fixture
def keys_dir(tmp_path):
    write_key(tmp_path / "order.key", KEYS.order.hex())
    write_key(tmp_path / "pseudonym.key", KEYS.pseudonym.hex())
    return tmp_path


def test_anything_in_the_place_of_a_mac_is_a_changed_order(world, log, keys_dir):
    ids = [world.submit([f"m{n}"]).id for n in range(3)]
    world.sql("UPDATE request SET header_mac = 'x' WHERE id = :id", id=ids[0])
    world.sql("UPDATE request SET closing_mac = 'x' WHERE id = :id", id=ids[1])
    verdict = Verdict()

    assert changed_orders(world.database, keys_dir, verdict).good == 1
    assert [fault.kind for fault in verdict.faults] == [Fault.ORDER_CHANGED] * 2
    assert all(any(one in fault.says for fault in verdict.faults) for one in ids[:2])


def test_keys_of_another_ledger_change_no_order(world, tmp_path):
    world.submit(IDS)
    Keys.create(tmp_path / "others")
    verdict = Verdict()

    orders = changed_orders(world.database, tmp_path / "others", verdict)
    assert (orders.keys, orders.good) == (OrderKeys.FOREIGN, None)
    assert verdict.good


def test_a_changed_fingerprint_of_the_keys_hides_no_changed_order(world, keys_dir):
    world.submit(IDS)
    other = world.submit(["x"]).id
    require_own_keys(world.database, Macs(KEYS))
    assert world.sql("UPDATE key_check SET fingerprint = :other", other="0" * 64) == 1
    world.sql("UPDATE request SET principal = 'nobody' WHERE id = :id", id=other)
    verdict = Verdict()

    orders = changed_orders(world.database, keys_dir, verdict)
    assert (orders.keys, orders.good) == (OrderKeys.OWN, 1)
    assert other in verdict.faults[0].says
