"""Looking: one request, lists with filters, what stands still; no names."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.clock import from_wall
from ledger.errors import NotFoundError, RequestError
from ledger.filters import parse_filter
from ledger.gauges import read_gauges
from ledger.schema import heartbeat
from ledger.states import Kind, Lane
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


def listed(world, text="", **limit):
    return [view.id for view in world.ledger.list_requests(filter=parse_filter(text), **limit)]


def test_the_newest_requests_come_first_and_filters_combine(world):
    a, b, user, agent, done = several(world)
    assert listed(world) == [done, agent, user, b, a]
    assert listed(world, limit=2) == [done, agent]
    assert listed(world, limit=0) == []
    assert listed(world, "project:blog") == [agent, b]
    assert listed(world, "kind:user") == [user]
    assert listed(world, "state:complete") == [done]
    assert listed(world, "state:open project:shop") == [user, a]
    assert listed(world, "kind:agent project:shop") == []
    assert listed(world, "kind:agent,user -project:shop") == [agent]
    assert listed(world, "project:nobody") == []
    assert world.ledger.count_requests() == 5
    assert world.ledger.count_requests(filter=parse_filter("final:false")) == 4


@pytest.mark.parametrize("odd", ["", "nobody", "\x00", "\ud800", "é" * 300, "' OR 1=1 --"])
def test_what_is_no_id_is_not_found_on_any_database(world, odd):
    several(world)
    with pytest.raises(NotFoundError, match=r"no request with this id.*`expunge list`") as caught:
        world.view(odd)
    assert caught.value.exit_code == 5


def test_a_request_is_overdue_when_its_date_is_over_and_it_has_not_ended(world):
    start = from_wall(world.clock.wall_ns // 1_000)
    late, ended = (world.submit([item], due_at=start).id for item in "ab")
    world.submit(["c"])
    world.ledger.cancel(ended, principal="op", reason="x")
    assert not world.view(late).overdue
    world.clock.tick(1)
    assert world.view(late).overdue
    assert not world.view(ended).overdue
    assert listed(world, "overdue:true") == [late]


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


DAY = 86_400


@pytest.mark.fault("F83")
@pytest.mark.parametrize(
    ("asked", "due"),
    [
        ("2027-01-31T10:00:00+00:00", "2027-02-28T10:00:00+00:00"),
        ("2028-01-31T23:59:59+00:00", "2028-02-29T23:59:59+00:00"),
        ("2027-12-31T00:00:00+00:00", "2028-01-31T00:00:00+00:00"),
        ("2027-03-14T02:30:00-05:00", "2027-04-14T02:30:00-05:00"),  # before daylight saving
        ("2038-01-19T03:14:08+00:00", "2038-02-19T03:14:08+00:00"),
    ],
)
def test_a_purge_is_due_a_calendar_month_after_it_was_asked_for(world, asked, due):
    submitted = datetime.fromisoformat(asked)
    purge = world.submit(kind=Kind.USER, subject="u", submitted_at=submitted)
    view = world.view(purge.id)
    assert (view.lane, view.due_at) == (Lane.ERASURE, datetime.fromisoformat(due))


def test_without_a_word_of_it_purges_are_erasures_with_a_date_and_ids_are_bulk_without(world):
    usual: list[tuple[dict[str, Any], Lane, bool]] = [
        ({"kind": Kind.USER, "subject": "u"}, Lane.ERASURE, True),
        ({"kind": Kind.AGENT, "subject": "a"}, Lane.ERASURE, True),
        ({"ids": ["m"]}, Lane.BULK, False),
        ({"ids": ["m"], "lane": Lane.ERASURE}, Lane.ERASURE, True),
        ({"kind": Kind.USER, "subject": "u", "lane": Lane.BULK}, Lane.BULK, False),
    ]
    for fields, lane, dated in usual:
        view = world.view(world.submit(**fields).id)
        assert (view.lane, view.due_at is not None) == (lane, dated)
    moment = datetime(2027, 2, 1, tzinfo=UTC)
    assert world.view(world.submit(["m"], due_at=moment).id).due_at == moment


def test_at_risk_is_the_last_quarter_before_the_due_date_in_views_filters_and_gauges(world):
    now = datetime.fromtimestamp(world.clock.wall_ns / 1e9, tz=UTC)
    due = now + timedelta(days=8)
    asked = world.submit(["a"], submitted_at=now, due_at=due)
    future = world.submit(["b"], submitted_at=now + timedelta(days=30), due_at=due)
    world.submit(["c"])
    seen = []
    for days in (0, 5, 5.5, 6.1, 8.1):
        world.clock.wall_ns = round((now.timestamp() + days * DAY) * 1e9)
        risk = set(listed(world, "at_risk:true"))
        late = set(listed(world, "overdue:true"))
        for one in (asked.id, future.id):
            view = world.view(one)
            assert (view.at_risk, view.overdue) == (one in risk, one in late)
        found = read_gauges(world.database)
        assert (found.at_risk, found.overdue) == (len(risk), len(late))
        seen.append((asked.id in risk, future.id in risk, len(late)))
    assert seen == [
        (False, False, 0),
        (False, False, 0),
        (False, True, 0),
        (True, True, 0),
        (False, False, 2),
    ]
    world.ledger.cancel(asked.id, principal="op", reason="x")
    assert not world.view(asked.id).at_risk


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
