"""Looking: one request, lists with filters, what stands still; no names."""

import json

import pytest

from ledger.errors import NotFoundError, RequestError
from ledger.schema import heartbeat
from ledger.states import Kind, RequestState
from ledger.tasks import Dead, Delivered, Move, Retry
from tests.support.ledger_world import settled


def several(world):
    found = []
    for fields in (
        {"ids": ["a"]},
        {"ids": ["b"], "project": "blog"},
        {"kind": Kind.USER, "subject": "u"},
        {"kind": Kind.AGENT, "subject": "u", "project": "blog"},
        {"ids": ["c"], "verify": "none"},
    ):
        world.clock.tick(1)
        found.append(world.submit(**fields).id)
    world.sql("UPDATE chunk SET state = 'done' WHERE request_id = :id", id=found[-1])
    world.sql("UPDATE request SET pending = 0, acknowledged = 1 WHERE id = :id", id=found[-1])
    world.advance(found[-1])
    return found


def listed(world, **filters):
    return [view.id for view in world.ledger.list_requests(**filters)]


def test_the_newest_requests_come_first_and_filters_combine(world):
    a, b, user, agent, done = several(world)
    assert listed(world) == [done, agent, user, b, a]
    assert listed(world, limit=2) == [done, agent]
    assert listed(world, limit=0) == []
    assert listed(world, project="blog") == [agent, b]
    assert listed(world, kind=Kind.USER) == [user]
    assert listed(world, state=RequestState.COMPLETE) == [done]
    assert listed(world, state=RequestState.OPEN, project="shop") == [user, a]
    assert listed(world, kind=Kind.AGENT, project="shop") == []
    assert listed(world, project="nobody") == []


@pytest.mark.parametrize("odd", ["", "nobody", "\x00", "\ud800", "é" * 300, "' OR 1=1 --"])
def test_what_is_no_id_is_not_found_on_any_database(world, odd):
    several(world)
    with pytest.raises(NotFoundError, match=r"no request with this id.*`expunge list`") as caught:
        world.view(odd)
    assert caught.value.exit_code == 5
    assert listed(world, project=odd) == []


def test_a_view_has_all_counts_and_nobodys_name(world):
    receipt = world.submit(
        [f"canary{n}" for n in range(6)], subject="canary", chunk_size=2, idempotency_key="canary"
    )
    moves: list[Move] = [Delivered(), Dead(bucket="refused"), Retry(delay_s=9, burn=True)]
    world.record(*(settled(world.claim_one(), move) for move in moves))
    view = world.view(receipt.id)
    counts = vars(view.counts)
    assert (counts["acknowledged"], counts["refused"], counts["pending"]) == (2, 2, 2)
    assert sum(counts.values()) - counts["requested"] - counts["unique"] == counts["unique"] == 6
    assert (view.chunks, view.attempts, view.retried) == (3, 3, 1)
    text = json.dumps(view.as_dict())
    assert "canary" not in text
    promised = {"id", "project", "kind", "lane", "state", "generation", "verify", "result"}
    promised |= {"certainty", "counts", "attempts", "created_at", "submitted_at", "due_at"}
    assert promised | {"finished_at"} <= set(view.as_dict())


def test_a_view_is_the_same_before_and_after_looking(world):
    receipt = world.submit(["a"])
    assert world.view(receipt.id) == world.view(receipt.id)


def test_pauses_say_what_rests_and_for_how_long(world):
    world.submit(["a"])
    world.record(
        settled(
            world.claim_one(),
            Retry(delay_s=0, burn=False),
            pause_account_s=30.0,
            pause_project="code_40132",
            reason="http_429",
        )
    )
    world.clock.tick(10)
    stopped, resting = world.ledger.pauses()
    assert (stopped.scope, stopped.name, stopped.reason) == ("project", "shop", "code_40132")
    assert (resting.scope, resting.name, resting.reason) == ("account", "acme", "http_429")
    assert resting.seconds_left == pytest.approx(20.0)
    assert world.ledger.resume_project("shop", principal="op")
    assert not world.ledger.resume_project("shop", principal="op")
    world.clock.tick(20)
    assert world.ledger.pauses() == []


def test_an_unknown_project_cannot_be_resumed(world):
    with pytest.raises(RequestError, match="no project 'nobody'"):
        world.ledger.resume_project("nobody", principal="op")


def test_heartbeats_are_one_row_a_process_and_forgotten_after_an_hour(world):
    world.ledger.beat(process="a", role="drain")
    world.ledger.beat(process="b", role="steward")
    world.clock.tick(3_000)
    world.ledger.beat(process="a", role="drain")
    assert [row.process for row in world.rows(heartbeat)] == ["a", "b"]
    world.clock.tick(700)
    world.ledger.beat(process="a", role="drain")
    assert [row.process for row in world.rows(heartbeat)] == ["a"]
