"""The record: hashed as it is stored, canonical, and without a name in it."""

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.audit.pruning import prune_bodies
from ledger.audit.rotating import begin_rotation
from ledger.canonical import canonical
from ledger.certificates.issuing import open_up
from ledger.epochs import begin_epoch, destroy_epoch
from ledger.errors import ConflictError, RequestError
from ledger.event_types import SCHEMAS
from ledger.events import EventType, append, leaf_hash
from ledger.fitting import adopt_keys
from ledger.keys import write_key
from ledger.lookups import find_subjects
from ledger.macs import Macs
from ledger.parked import UnusableMessage
from ledger.reapplying import recognise
from ledger.schema import attempt, event, event_body, metadata, request
from ledger.states import Kind
from ledger.stops import TRIPS
from ledger.tasks import Dead, Delivered, Retry
from tests.support.audit_log import AuditLog
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS, make_order, settled

CANARY = "canary"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
IDS = [f"{CANARY}-id-{n}" for n in range(12)]


def busy_day(world):
    """Let everything happen that writes an event."""
    user = f"{CANARY}-user"
    memos = Memos(IDS[:10], subjects={user}, stubborn={user: 1})
    fields = {"subject": f"{CANARY}-user", "idempotency_key": f"{CANARY}-key"}
    first = world.submit(IDS, reason="gdpr-17", **fields)
    with pytest.raises(ConflictError):
        world.submit(IDS[:3], reason="gdpr-17", **fields)
    with pytest.raises(RequestError):
        world.ledger.begin(make_order(reason=f"{CANARY} asked for it"), chunk_size=1)
    stopped = world.claim_one()
    world.record(
        settled(
            stopped,
            Retry(delay_s=0, burn=True, doubtful=True),
            pause_account_s=1.0,
            pause_project="x",
        )
    )
    world.ledger.resume_project("shop", principal="op")
    world.clock.tick(2)
    world.record(settled(world.claim_one(), Delivered()))
    world.submit([f"{CANARY}-{number}" for number in range(20)], chunk_size=1)
    failing = [
        settled(world.claim_one(), Retry(delay_s=0, burn=False), outage=True) for _ in range(TRIPS)
    ]
    world.record(*failing)
    world.clock.tick(2)
    world.record(settled(world.claim_one(), Delivered()))
    world.claim_one(lease_s=1)
    world.clock.tick(5)
    world.sweep()
    world.submit(kind=Kind.USER, subject=f"{CANARY}-user")
    world.submit(kind=Kind.AGENT, subject=f"{CANARY}-agent")
    world.submit([*IDS, "x"], verify="sample:3")
    tampered = world.submit([f"{CANARY}-other"])
    world.sql("UPDATE request SET reason = 'changed' WHERE id = :id", id=tampered.id)
    world.run(memos)
    world.sweep()
    world.clock.tick(61)  # the purges' second look
    world.sweep()
    world.run(memos)
    world.ledger.pause_account("acme", principal="op", reason="x")
    world.ledger.resume_account("acme", principal="op")
    world.ledger.beat(process="p1", role="drain")
    changed = world.submit(["y"])
    world.ledger.hold(changed.id, principal="op", reason="x")
    world.ledger.release(changed.id, principal="op")
    world.ledger.cancel(changed.id, principal="op", reason="x")
    given_up = world.submit(["z"], verify="none")
    for request_id in world.record(settled(world.claim_one(), Dead(bucket="refused"))):
        world.advance(request_id)
    world.ledger.show_dead(given_up.id, reveal_to="op")
    world.ledger.redrive(given_up.id, principal="op", reason="x")
    for request_id in world.record(settled(world.claim_one(), Dead(bucket="refused"))):
        world.advance(request_id)
    world.ledger.discard(given_up.id, principal="op", reason="x")
    body = f'{{"user_id": "{CANARY}-user"}}'.encode()
    message = UnusableMessage(
        broker="redis", stream="s", position="1-0", reason="x", detail="x", body=body
    )
    world.ledger.park_messages([message])
    with tempfile.TemporaryDirectory() as folder:
        look_after_the_log(AuditLog(world.database, Path(folder)))
    return first


def look_after_the_log(log):
    log.seal()
    act = {"principal": "op", "reason": "x"}
    begin_rotation(log.database, keys_dir=log.keys_dir, published=log.published, **act)
    log.seal()
    prune_bodies(log.database, below=0, **act)


def forget_names(world, folder):
    """Let the names go, with everything that is recorded of who still asks for them."""
    request_id = world.rows(request, request.c.finished_at.is_not(None))[0].id
    open_up(world.database, Macs(KEYS), request_id, generation=1, principal="op")
    world.clock.tick(15 * 86_400)
    while world.ledger.scrub(redrive_days=14, row_days=90).more:
        pass
    find_subjects(world.database, Macs(KEYS), ["nobody"], principal="op")
    recognise(world.database, Macs(KEYS), ["nothing"], since=LONG_AGO, principal="op")
    folder.mkdir()
    write_key(folder / "order.key", KEYS.order.hex())
    write_key(folder / "pseudonym.key", KEYS.pseudonym.hex())
    act = {"principal": "op", "reason": "x"}
    for _ in range(2):
        begin_epoch(world.database, keys_dir=folder, **act)
    destroy_epoch(world.database, keys_dir=folder, no=1, **act)
    adopt_keys(world.database, Macs(KEYS), **act)


def test_every_event_hashes_to_its_leaf_from_the_bytes_that_are_stored(world):
    busy_day(world)
    bodies = {row.event: row for row in world.rows(event_body)}
    events = world.rows(event)
    assert {row.id for row in events} == set(bodies)
    for row in events:
        body = bodies[row.id]
        plain = b"\x00expunge-audit/v1\n" + bytes(body.salt) + bytes(body.payload)
        assert bytes(row.leaf_hash) == hashlib.sha256(plain).digest()
        assert bytes(row.leaf_hash) == leaf_hash(bytes(body.payload), bytes(body.salt))
        assert len(body.salt) == 32
    assert len({bytes(row.salt) for row in bodies.values()}) == len(bodies)


def test_every_payload_is_canonical_and_says_what_its_row_says(world):
    busy_day(world)
    rows = {row.id: row for row in world.rows(event)}
    for body in world.rows(event_body):
        parsed = json.loads(body.payload)
        assert canonical(parsed) == bytes(body.payload)
        row = rows[body.event]
        assert (parsed["id"], parsed["type"], parsed["request"]) == (row.id, row.type, row.request)
        assert parsed["v"] == SCHEMAS[EventType(row.type)][-1].version
        assert parsed["at"].endswith("+00:00")


def test_a_busy_day_and_its_aftermath_write_every_type_of_event(world, tmp_path):
    busy_day(world)
    forget_names(world, tmp_path / "more keys")
    assert {row.type for row in world.rows(event)} == {kind.value for kind in EventType}


def test_no_name_is_anywhere_but_in_the_work_itself(world):
    """Not in events, attempts, accounts, leases, heartbeats; ids in chunks, users in requests."""
    busy_day(world)
    allowed = {("chunk", "ids"), ("request", "subject"), ("readback", "seen")}
    for table in metadata.sorted_tables:
        for row in world.rows(table):
            for column, value in row._mapping.items():
                text = (
                    bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                )
                if (table.name, column) not in allowed:
                    assert CANARY.encode() not in text, (table.name, column)
    assert any(CANARY in row.subject for row in world.rows(request, request.c.subject.is_not(None)))


def test_the_same_user_has_the_same_reference_within_a_project_only(world):
    for project in ("shop", "shop", "blog"):
        world.submit(kind=Kind.USER, subject="u", project=project)
    world.submit(kind=Kind.AGENT, subject="u")
    world.submit(["m"], subject="u")
    refs = [row.subject_ref for row in sorted(world.rows(request), key=lambda r: r.created_at)]
    by_kind = {(row.project, row.kind): row.subject_ref for row in world.rows(request)}
    assert by_kind["shop", "memories"] == by_kind["shop", "user"]
    assert len(set(by_kind.values())) == len(by_kind) - 1 == 3
    assert len(set(refs)) == 3
    assert all(len(ref) == 64 for ref in refs)


def test_outcomes_are_counted_and_digested(world):
    world.submit([f"m{n}" for n in range(4)], chunk_size=1)
    tasks = [world.claim_one() for _ in range(4)]
    world.record(
        *(
            settled(task, Retry(delay_s=1, burn=True), outcome=word, code=40307, http_status=400)
            for task, word in zip(tasks, ["unknown", "unknown", "back_off", "unknown"], strict=True)
        )
    )
    (body,) = [
        parsed
        for parsed in (json.loads(row.payload) for row in world.rows(event_body))
        if parsed["type"] == "calls.outcome"
    ]
    assert body["outcomes"] == {"back_off": 1, "unknown": 3}
    assert (body["calls"], body["stale"]) == (4, 0)
    rows = {(row.claim, row.place): row for row in world.rows(attempt)}
    digest = hashlib.sha256()
    for task in tasks:
        row = rows[task.claim, task.place]
        line = [row.claim, row.place, row.outcome, row.reason, row.http_status, row.code, False]
        digest.update(canonical(line) + b"\n")
    assert body["digest"] == digest.hexdigest()


def test_an_event_that_does_not_match_its_schema_is_not_written(world):
    for payload in ({"x": 0.5}, {"calls": 0.5, "given_up": 0}, {"calls": 2**53, "given_up": 0}):
        with pytest.raises(ValueError, match=r"cannot be recorded|no canonical JSON form"):
            world.database.write(lambda c, it=payload: append(c, EventType.LEASES_LAPSED, it))
    assert world.rows(event) == []
