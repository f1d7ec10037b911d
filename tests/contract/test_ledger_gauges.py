"""What monitoring is told of the ledger, and the gate that a newer schema shuts."""

import pytest
from sqlalchemy import insert

from ledger import Kind
from ledger.errors import SchemaError
from ledger.gauges import GaugeReader, read_gauges
from ledger.migrate import _known, check_schema
from ledger.schema import attempt, chunk, parked_message
from ledger.tasks import Dead, Delivered
from tests.support.audit_log import AuditLog
from tests.support.ledger_world import POLICY, settled

HEAD, _ = _known()


def gauges(world):
    return read_gauges(world.database)


def test_an_empty_ledger_gives_every_series_a_zero(world):
    found = gauges(world)

    assert found.requests == {"receiving": 0, "scheduled": 0, "open": 0, "verifying": 0}
    assert found.oldest_s == {"memories": 0.0, "user": 0.0, "agent": 0.0}
    assert (found.overdue, found.held, found.parked, found.dead) == (0, 0, 0, {})
    assert found.unsealed_s == 0
    assert found.paused == {
        ("project", "blog"): False,
        ("project", "far"): False,
        ("project", "shop"): False,
        ("account", "acme"): False,
        ("account", "beta"): False,
    }
    assert found.circuits == {"blog": False, "far": False, "shop": False}
    assert found.heartbeats == ()


def test_the_oldest_event_that_nobody_sealed_tells_its_age(world, tmp_path):
    log = AuditLog(world.database, tmp_path)
    world.submit(["a"])
    world.clock.tick(100)
    world.submit(["b"])
    world.clock.tick(10)
    assert gauges(world).unsealed_s == pytest.approx(110, abs=0.01)

    log.seal()

    assert gauges(world).unsealed_s == 0
    world.sql("INSERT INTO unsealed (event) VALUES ('no event of ours')")
    assert gauges(world).unsealed_s == 0


def test_requests_are_counted_until_they_end_with_the_age_of_the_oldest(world):
    first = world.submit(["a"], verify="none")
    world.clock.tick(100)
    world.submit(["b"])
    world.submit(kind=Kind.USER, subject="u-1")
    world.clock.tick(10)

    found = gauges(world)
    assert found.requests["open"] == 3
    assert found.oldest_s == {
        "memories": pytest.approx(110),
        "user": pytest.approx(10),
        "agent": 0.0,
    }

    task = next(t for t in world.claim(10, lead_s=0).tasks if t.request_id == first.id)
    for request_id in world.record(settled(task, Delivered())):
        ended = world.ledger.advance(request_id, policy=POLICY)
        assert ended is not None
        assert (ended.request_id, ended.result.value) == (first.id, "complete")
        assert ended.seconds == pytest.approx(110)
        assert world.ledger.advance(request_id, policy=POLICY) is None  # it ends once
    found = gauges(world)
    assert found.requests["open"] == 2
    assert found.oldest_s["memories"] == pytest.approx(10)


def test_what_is_overdue_or_held_is_told(world):
    receipt = world.submit(kind=Kind.USER, subject="u-1")
    world.submit(["b"])
    world.sql("UPDATE request SET held = 1 WHERE id = :id", id=receipt.id)
    assert (gauges(world).overdue, gauges(world).held) == (0, 1)

    world.clock.tick(40 * 86_400)
    assert (gauges(world).overdue, gauges(world).held) == (1, 1)


def test_what_stands_still_is_told(world):
    world.sql("UPDATE project SET paused = 1, pause_reason = 'x' WHERE name = 'shop'")
    world.sql("UPDATE account SET paused_until_ns = :until WHERE name = 'beta'", until=2**60)
    world.sql("UPDATE project SET open_until_ns = :until WHERE name = 'blog'", until=2**60)

    found = gauges(world)

    assert {name for name, stands in found.paused.items() if stands} == {
        ("project", "shop"),
        ("account", "beta"),
    }
    assert found.circuits == {"blog": True, "far": False, "shop": False}


def test_dead_letters_are_counted_by_reason_until_they_are_redriven_or_discarded(
    world, monkeypatch
):
    sent = [world.submit([name], verify="none") for name in "abcd"]
    slugs = dict(zip("abcd", ("http_503", "http_503", "code_1", "code_2"), strict=True))
    tasks = world.claim(10).tasks
    dead = Dead(bucket="unknown")
    for request_id in world.record(
        *(settled(task, dead, reason=slugs[task.ids[0]]) for task in tasks)
    ):
        world.advance(request_id)
    assert gauges(world).dead == {"http_503": 2, "code_1": 1, "code_2": 1}
    why = {"principal": "op", "reason": "x"}
    world.ledger.discard(sent[0].id, **why)
    assert gauges(world).dead == {"code_1": 1, "code_2": 1, "http_503": 1}
    # Few labels, and few rows read, however many there are.
    monkeypatch.setattr("ledger.gauges._MOST_REASONS", 1)
    assert gauges(world).dead == {"code_1": 1, "other": 2}
    monkeypatch.setattr("ledger.gauges._MOST_DEAD", 2)
    assert sum(gauges(world).dead.values()) == 2
    for receipt in sent[1:]:
        world.ledger.redrive(receipt.id, **why)
    assert gauges(world).dead == {}


def test_heartbeats_and_parked_messages_are_told(world):
    world.ledger.beat(process="steward-1-0a", role="steward")
    row = {
        "broker": "redis",
        "stream": "s",
        "reason": "not_json",
        "detail": "d",
        "size": 1,
        "body_ref": "r",
        "parked_at": 1,
    }
    world.database.write(
        lambda conn: conn.execute(
            insert(parked_message), [row | {"id": str(n), "position": f"{n}-0"} for n in range(3)]
        )
    )

    found = gauges(world)

    assert found.heartbeats == (("steward-1-0a", "steward", world.clock.wall_ns / 1e9),)
    assert found.parked == 3


def test_the_ledger_is_looked_at_again_only_after_a_while(world):
    reader = GaugeReader(world.database)
    first = reader()
    assert reader() is first

    reader._again_at = 0.0
    assert reader() is not first


# -- the gate -------------------------------------------------------------------------------------


def migrate(world, revision):
    world.sql("UPDATE alembic_version SET version_num = :revision", revision=revision)


@pytest.fixture
def migrated(world):
    """A ledger that somebody brings to a newer release's tables while it is in use."""
    (known,) = world.database.read(
        lambda conn: conn.exec_driver_sql("SELECT version_num FROM alembic_version").one()
    )
    yield lambda: migrate(world, "9999")
    migrate(world, known)


def test_nothing_is_claimed_from_a_ledger_that_was_migrated_and_outcomes_are_recorded(
    world, migrated
):
    receipt = world.submit([f"id-{n}" for n in range(30)], chunk_size=10, verify="none")
    task = world.claim_one()
    migrated()
    world.clock.tick(5)

    with pytest.raises(SchemaError) as caught:
        world.claim()
    assert (caught.value.found, caught.value.needed) == ("9999", HEAD)
    assert len(world.rows(attempt)) == 1
    assert len(world.rows(chunk, chunk.c.state == "leased")) == 1
    with pytest.raises(SchemaError):
        world.ledger.check_schema()

    world.record(settled(task, Delivered()))
    assert world.view(receipt.id).counts.acknowledged == 10


def test_it_goes_on_when_the_schema_fits_again(world, migrated):
    world.submit(["a"])
    migrated()
    with pytest.raises(SchemaError):
        world.claim()
    migrate(world, HEAD)

    world.ledger.check_schema()
    check_schema(world.database)
    assert len(world.claim().tasks) == 1


def test_an_older_ledger_is_refused_with_what_to_do(world, migrated):
    migrate(world, "0001")
    try:
        with pytest.raises(SchemaError, match="expunge db upgrade"):
            world.ledger.check_schema()
    finally:
        migrated()


def test_a_project_that_rests_leaves_nothing_waiting(world):
    world.submit(["a"])
    world.sql("UPDATE project SET open_until_ns = :until", until=2**60)
    assert not world.sweep().due
    world.sql("UPDATE project SET open_until_ns = 0")
    assert world.sweep().due


def test_a_request_that_the_sweep_ends_is_told(world):
    receipt = world.submit(["a"], verify="none")
    world.record(settled(world.claim_one(), Delivered()))

    swept = world.sweep()

    assert [one.request_id for one in swept.ended] == [receipt.id]
    assert world.sweep().ended == ()
