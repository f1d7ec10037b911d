"""What becomes of messages: lost 0, doubled 0, whatever they are and whoever dies."""

import threading
from itertools import pairwise

import pytest

from ledger.errors import RequestError, UnknownProjectError
from ledger.parked import UnusableMessage
from ledger.schema import chunk, event, parked_message, request
from ledger.states import Kind
from ledger.streams import Stream
from producer import Producer
from producer.bridge import metrics
from producer.bridge import pump as pump_module
from producer.bridge.message import read_event
from producer.bridge.pump import MOST_MESSAGES
from producer.bridge.source import Parked, QueueFault, SourceError
from tests.contract.bridge_world import (
    CANARY,
    STREAM,
    Bridges,
    Desk,
    KilledError,
    SilentBell,
    Stop,
    an_event,
)

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def bridges(world, valkey, tmp_path):
    made = Bridges(world, valkey, tmp_path)
    with made.redis, made.producer:
        yield made


def users(*names):
    return sorted(f"{CANARY}-{name}" for name in names)


def test_a_message_becomes_a_request_and_leaves_the_stream(bridges):
    bridges.send(
        an_event(1),
        an_event(2, {"memory_ids": ["m1", "m2"], "reason": "expired"}, traceparent=TRACE),
        an_event(3, {"agent_id": "a"}),
    )
    with bridges.pump() as pump:
        assert pump.turn() == 3
    rows = sorted(bridges.requests(), key=lambda row: row.kind)
    assert [row.kind for row in rows] == ["agent", "memories", "user"]
    assert {(row.project, row.principal, row.state) for row in rows} == {("default", "crm", "open")}
    assert [row.traceparent for row in rows] == [None, TRACE, None]
    assert (rows[1].reason, rows[1].unique_ids) == ("expired", 2)
    assert bridges.redis.xlen(STREAM) == bridges.pending() == 0
    assert bridges.parked() == []


def test_a_message_that_comes_twice_is_one_request(bridges):
    bridges.send(an_event(1), an_event(1), an_event(1, source="/billing"))
    bridges.drain()
    bridges.send(an_event(1))
    bridges.drain()
    assert len(bridges.requests()) == len(bridges.world.rows(chunk)) == 2
    assert bridges.parked() == []


def test_garbage_is_parked_once_with_its_reason_and_stops_nobody(bridges):
    places = bridges.send(
        an_event(1),
        f"garbage {CANARY}",
        an_event(2, type="com.example.order.placed"),
        an_event(3, {"user_id": CANARY, "project": "other"}),
        an_event(4, {"memory_ids": []}),
        an_event(5, {"user_id": CANARY, "reason": "Mrs Smith"}),
        "x" * 70_000,
        an_event(6),
    )
    places += bridges.send(an_event(7), field=CANARY)
    bridges.drain()
    assert bridges.users() == users(1, 6)
    found = {row.position: row for row in bridges.world.rows(parked_message)}
    assert [found[place].reason for place in places if place in found] == [
        *("not_json", "wrong_type", "field_not_allowed", "wrong_data", "wrong_data"),
        *("too_big", "no_event_field"),
    ]
    assert bridges.redis.xlen(STREAM) == bridges.pending() == 0
    assert sorted(each["reference"] for each in bridges.dead()) == sorted(
        row.id for row in found.values()
    )
    assert all(set(each) == {"reference", "reason"} for each in bridges.dead())
    kinds = [row.type for row in bridges.world.rows(event)]
    assert (kinds.count("message.parked"), kinds.count("request.accepted")) == (7, 2)


def test_neither_the_dead_nor_the_record_hold_what_a_message_said(bridges):
    bridges.send(
        an_event(1),
        an_event(CANARY, {CANARY: 1}),
        an_event(2, {"user_id": CANARY, "reason": f"{CANARY} "}),
        an_event(2, source=f"/{CANARY}", **{f"{CANARY}x": 1}),
        CANARY,
        f'{{"{CANARY}": 1, "{CANARY}": 2}}',
    )
    bridges.send(CANARY, field=f"{CANARY}-field")
    bridges.drain()
    assert len(bridges.parked()) == 6
    assert CANARY not in bridges.hidden()


def test_an_event_of_the_same_name_that_orders_something_else_is_parked(bridges):
    bridges.send(an_event(1), an_event(1, {"user_id": "other"}))
    bridges.drain()
    assert (bridges.users(), bridges.parked()) == (users(1), ["conflict"])


def test_a_stream_orders_only_what_its_settings_allow(bridges):
    bridges.send(an_event(1), an_event(2, {"memory_ids": ["m"]}))
    bridges.drain(stream=Stream(name=STREAM, kinds=frozenset({Kind.MEMORIES})))
    assert [row.kind for row in bridges.requests()] == ["memories"]
    assert bridges.parked() == ["kind_not_allowed"]


def test_a_message_that_nobody_foresaw_is_parked_and_the_others_go_in(bridges, monkeypatch):
    read = read_event

    def breaks(body):
        if b"-2" in body:
            raise RuntimeError(CANARY)
        return read(body)

    monkeypatch.setattr(pump_module, "read_event", breaks)
    bridges.send(an_event(1), an_event(2), an_event(3))
    bridges.drain()
    assert (bridges.users(), bridges.parked()) == (users(1, 3), ["unreadable"])
    assert CANARY not in bridges.hidden()


class Odd(Desk):
    """Fails with those of user 2, for some times."""

    error: Exception = RuntimeError(CANARY)
    times = 1_000
    alone = 0

    def hand_in_many(self, requests):
        if self.times > 0 and any(each.subject == f"{CANARY}-2" for each in requests):
            self.alone += len(requests) == 1
            self.times -= len(requests) == 1
            raise self.error
        return super().hand_in_many(requests)


@pytest.mark.parametrize("error", [RuntimeError(CANARY), RequestError("It is not open.")])
def test_one_that_fails_in_the_ledger_each_of_five_times_is_parked_and_the_others_go_in(
    bridges, error
):
    desk = Odd(bridges.producer, bridges.world.ledger)
    desk.error = error
    bridges.send(an_event(1), an_event(2), an_event(3))
    with bridges.pump(source=bridges.source(claim_idle_s=0.0), desk=desk) as pump:
        for turn in range(1, 6):
            assert bridges.parked() == []
            pump.turn()
            assert bridges.users() == users(1, 3)
            assert desk.alone == turn
    assert bridges.parked() == ["unreadable"]
    assert bridges.redis.xlen(STREAM) == bridges.pending() == 0
    assert CANARY not in bridges.hidden()


def test_one_that_fails_in_the_ledger_for_a_while_goes_in_later_and_holds_up_nobody(bridges):
    desk = Odd(bridges.producer, bridges.world.ledger)
    desk.times = 1
    source = bridges.source(claim_idle_s=60.0)
    bridges.send(an_event(2), an_event(1))
    with bridges.pump(source=source, desk=desk) as pump:
        pump.turn()
        bridges.send(an_event(3))
        assert pump.turn() == 1
        assert (bridges.users(), bridges.pending()) == (users(1, 3), 1)
        source._claim_idle_ms = 0
        assert pump.turn() == 1
    assert (bridges.users(), bridges.parked()) == (users(1, 2, 3), [])
    assert bridges.pending() == 0


def test_a_ledger_that_fails_with_everything_is_not_asked_in_a_hurry(bridges):
    class Broken(Desk):
        def hand_in_many(self, requests):
            raise RuntimeError(CANARY)

    stop = Stop()
    before = metrics.MESSAGES.labels("redis", STREAM, "failed")._value.get()
    source = bridges.source(claim_idle_s=0.0)
    bridges.send(an_event(1), an_event(2))
    with bridges.pump(source=source, stop=stop) as pump:
        good, pump._desk = pump._desk, Broken(bridges.producer, bridges.world.ledger)
        for _ in range(4):
            pump.turn()
        assert all(later > first for first, later in pairwise(stop.waits))
        assert len(stop.waits) == 4
        pump._desk = good
        pump.turn()
    assert metrics.MESSAGES.labels("redis", STREAM, "failed")._value.get() == before + 8
    assert (bridges.users(), bridges.parked()) == (users(1, 2), [])


def test_a_ledger_that_fails_because_the_bridge_ends_parks_nothing(bridges):
    stop = Stop()

    class Closed(Desk):
        def hand_in_many(self, requests):
            stop.after = 0
            raise RequestError(CANARY)

    bridges.send(an_event(1))
    # As if it had come often before: that alone is no reason.
    for _ in range(6):
        with (dead := bridges.source(claim_idle_s=0.0)).open():
            dead.receive(10, 0.01)
    source = bridges.source(claim_idle_s=0.0)
    desk = Closed(bridges.producer, bridges.world.ledger)
    with bridges.pump(source=source, stop=stop, desk=desk) as pump:
        pump.run()
    assert (bridges.requests(), bridges.parked()) == ([], [])
    assert bridges.redis.xlen(STREAM) == bridges.pending() == 1


def test_what_comes_after_the_stop_is_left_in_the_queue(bridges):
    stop, source = Stop(), bridges.source()
    receive = source.receive

    def late(most, timeout_s):
        found = receive(most, timeout_s)
        stop.after = 0
        return found

    source.receive = late
    bridges.send(an_event(1), "garbage")
    with bridges.pump(source=source, stop=stop) as pump:
        pump.run()
    assert (bridges.requests(), bridges.parked()) == ([], [])
    assert bridges.redis.xlen(STREAM) == bridges.pending() == 2


def test_a_ledger_that_does_not_know_the_project_parks_nothing(bridges):
    class Forgetful(Desk):
        def hand_in_many(self, requests):
            if self.calls < 3:
                self.calls += 1
                return [UnknownProjectError("There is no project.") for _ in requests]
            return super().hand_in_many(requests)

    stop = Stop()
    bridges.send(an_event(1), an_event(2))
    bridges.drain(stop=stop, desk=Forgetful(bridges.producer, bridges.world.ledger))
    assert (bridges.users(), bridges.parked()) == (users(1, 2), [])
    assert len(stop.waits) == 3


def test_a_ledger_that_lost_the_project_gets_it_again_and_takes_the_messages(bridges):
    with bridges.pump() as pump:
        bridges.world.sql("DELETE FROM project")
        bridges.send(an_event(1), an_event(2))
        pump.turn()
    assert (bridges.users(), bridges.parked()) == (users(1, 2), [])


def test_an_event_that_comes_again_under_other_settings_is_the_same_request(bridges):
    bridges.send(an_event(1))
    bridges.drain()
    changed = bridges.settings.model_copy(update={"verify": "none"})
    with Producer(changed, store=bridges.world.ledger, bell=SilentBell()) as producer:
        bridges.send(an_event(1))
        bridges.drain(desk=Desk(producer, bridges.world.ledger))
    assert [row.verify for row in bridges.requests()] == ["full"]
    assert bridges.parked() == []


def test_an_entry_with_two_events_orders_neither(bridges):
    two = [part for n in (1, 2) for part in ("event", an_event(n))]
    bridges.redis.execute_command("XADD", STREAM, "*", *two)
    bridges.drain()
    assert (bridges.requests(), bridges.parked()) == ([], ["no_event_field"])


# -- whoever dies ---------------------------------------------------------------------------------


def test_dying_between_commit_and_confirmation_gives_one_request(bridges):
    bridges.send(*(an_event(n) for n in range(5)))
    source = bridges.source()
    with pytest.raises(KilledError), bridges.pump(source=source, dies_after_commit=True) as pump:
        pump.turn()
    assert len(bridges.requests()) == 5
    assert bridges.pending() == 5
    bridges.drain(source=bridges.source(claim_idle_s=0.0))
    assert bridges.users() == users(*range(5))
    assert bridges.pending() == 0


def test_dying_before_the_commit_loses_nothing(bridges):
    bridges.send(*(an_event(n) for n in range(5)))
    with bridges.pump() as pump:
        pump._source.receive(3, 0.01)
    assert bridges.pending() == 3
    bridges.drain(source=bridges.source(claim_idle_s=0.0))
    assert bridges.users() == users(*range(5))


def test_dying_between_parking_in_the_ledger_and_in_the_queue_parks_once(bridges):
    bridges.send("garbage")
    with bridges.pump() as pump:
        (message,) = pump._source.receive(10, 0.01)
    (first,) = bridges.world.ledger.park_messages(
        [
            UnusableMessage(
                broker="redis",
                stream=STREAM,
                position=message.position,
                reason="not_json",
                detail="It is no JSON.",
                body=message.body,
            )
        ]
    )
    bridges.drain(source=bridges.source(claim_idle_s=0.0))
    assert bridges.parked() == ["not_json"]
    assert bridges.dead() == [{"reference": first, "reason": "not_json"}]


def test_what_a_dead_bridge_had_is_taken_over_with_its_number_of_deliveries(bridges):
    bridges.send(an_event(1), an_event(2))
    for _ in range(2):
        with bridges.source(claim_idle_s=0.0).open():
            pass
        dead = bridges.source(claim_idle_s=0.0)
        with dead.open():
            taken = dead.receive(10, 0.01)
    assert [message.deliveries for message in taken] == [2, 2]
    live = bridges.source(claim_idle_s=30.0)
    with live.open():
        assert live.receive(10, 0.01) == []


def test_a_long_line_of_a_dead_bridge_is_taken_over_in_parts(bridges):
    bridges.send(*(an_event(n) for n in range(2 * MOST_MESSAGES + 7)))
    dead = bridges.source()
    with dead.open():
        dead.receive(1_000, 0.01)
    bridges.drain(source=bridges.source(claim_idle_s=0.0))
    assert len(bridges.requests()) == 2 * MOST_MESSAGES + 7


# -- a ledger that is away ------------------------------------------------------------------------


def test_a_ledger_that_is_away_confirms_nothing_and_loses_nothing(bridges):
    bridges.send(an_event(1), "garbage", an_event(2))
    stop = Stop()
    with bridges.pump(stop=stop, away=9) as pump:
        pump.turn()
    assert bridges.users() == users(1, 2)
    assert bridges.parked() == ["not_json"]
    assert len(stop.waits) == 9
    assert all(
        later > before for before, later in zip(stop.waits[:5], stop.waits[1:6], strict=True)
    )
    assert stop.waits[0] < 0.2
    assert max(stop.waits) <= 15.0


def test_stopping_while_the_ledger_is_away_leaves_the_messages_in_the_queue(bridges):
    bridges.send(an_event(1), an_event(2))
    source = bridges.source()
    with bridges.pump(source=source, stop=Stop(after=3), away=100) as pump:
        pump.run()
    assert bridges.requests() == []
    assert bridges.redis.xlen(STREAM) == bridges.pending() == 2
    bridges.drain(source=bridges.source(claim_idle_s=0.0))
    assert bridges.users() == users(1, 2)


def test_a_turn_that_fails_unforeseen_is_tried_again_and_ends_nothing(bridges):
    bridges.send(an_event(1))
    source = bridges.source(claim_idle_s=0.0)
    receive = source.receive
    failed: list[object] = []

    def once(most, timeout_s):
        found = receive(most, timeout_s)
        if found and not failed:
            failed.append(found)
            raise MemoryError(CANARY)
        return found

    source.receive = once
    with bridges.pump(source=source) as pump:
        pump._stop = Stop(after=1)
        pump.run()
        pump._stop = Stop()
        with source.open():
            pump.turn()
    assert failed
    assert bridges.users() == users(1)


# -- a queue that is away -------------------------------------------------------------------------


def test_a_confirmation_that_does_not_get_through_is_repeated(bridges):
    bridges.send(an_event(1), "garbage")
    source = bridges.source()
    ack, park = source.ack, source.park
    failures: list[object] = []

    def flaky(method):
        def call(what):
            if len(failures) < 4:
                failures.append(what)
                raise SourceError(QueueFault.UNREACHABLE)
            return method(what)

        return call

    source.ack, source.park = flaky(ack), flaky(park)
    with bridges.pump(source=source) as pump:
        pump.turn()
    assert len(failures) == 4
    assert (len(bridges.requests()), bridges.parked()) == (1, ["not_json"])
    assert bridges.redis.xlen(STREAM) == 0
    assert len(bridges.dead()) == 1


def test_an_emptied_redis_is_read_again_from_its_beginning(bridges):
    bridges.send(an_event(1))
    with bridges.pump() as pump:
        pump.turn()
        bridges.redis.flushall()
        bridges.send(an_event(1), an_event(2))
        pump.turn()
        bridges.redis.flushall()
        assert pump.turn() == 0
    assert bridges.users() == users(1, 2)


def test_a_redis_that_is_full_gets_rid_of_poison_all_the_same(bridges):
    bridges.send("garbage")
    with bridges.pump() as pump:
        bridges.redis.config_set("maxmemory", "1")
        try:
            pump.turn()
        finally:
            bridges.redis.config_set("maxmemory", "0")
    assert (bridges.parked(), bridges.dead()) == (["not_json"], [])
    assert bridges.redis.xlen(STREAM) == 0


def test_parking_and_confirming_nothing_asks_nothing(bridges):
    source = bridges.source()
    source.ack([])
    source.park([])
    with pytest.raises(SourceError):
        source.park([Parked(position="1-1", reference="r", reason="x")])


# -- many -----------------------------------------------------------------------------------------


def test_a_backlog_of_ten_thousand_goes_in_once_each(bridges):
    # On PostgreSQL the same with fewer: what differs there is no matter of their number.
    total = 10_000 if bridges.world.database.is_sqlite else 2_000
    for start in range(0, total, 1_000):
        with bridges.redis.pipeline(transaction=False) as some:
            for n in range(start, start + 1_000):
                some.xadd(STREAM, {"event": an_event(n)})
            some.execute()
    with bridges.pump() as pump:
        assert pump._source.lag() == total
        while bridges.redis.xlen(STREAM):
            pump.turn()
        assert pump._source.lag() == 0
    found = [row.subject for row in bridges.requests()]
    assert len(found) == len(set(found)) == total
    assert bridges.parked() == []


def test_two_bridges_on_one_stream_share_it_and_double_nothing(bridges):
    total = 6 * MOST_MESSAGES
    bridges.send(*(an_event(n % (total - 50)) for n in range(total)))
    turns = [0, 0]

    def work(which):
        with bridges.pump() as pump:
            while bridges.redis.xlen(STREAM):
                turns[which] += bool(pump.turn())

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(turns) > 0
    assert bridges.users() == users(*range(total - 50))
    assert bridges.world.rows(request, request.c.state != "open") == []
    assert bridges.pending() == 0
