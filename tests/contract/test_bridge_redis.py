"""The Redis stream as a source: what it does to the server, and what it says when that refuses."""

import threading
import time
from pathlib import Path

import pytest

from producer.bridge import redis_stream
from producer.bridge.redis_stream import RedisStream
from producer.bridge.source import Parked, QueueFault, SourceError

STREAM = "s"
GROUP = "expunge"
SECRET = "secret-4f1c"


@pytest.fixture
def redis(valkey):
    with valkey.client() as client:
        yield client


def source(server, **options):
    plain = {"url": server.url, "stream": STREAM, "group": GROUP, "claim_every_s": 0.0}
    return RedisStream(**(plain | options))


def consumers(redis):
    return [each["name"] for each in redis.xinfo_consumers(STREAM, GROUP)]


def test_messages_that_were_there_before_the_first_bridge_are_read(valkey, redis):
    redis.xadd(STREAM, {"event": "a"})
    with (one := source(valkey)).open():
        (message,) = one.receive(10, 0.01)
    assert (message.body, message.deliveries, message.fault) == (b"a", 1, None)


def test_reading_gives_at_most_what_was_asked_for_and_waits_for_a_first_one(valkey, redis):
    with (one := source(valkey)).open():
        began = time.monotonic()
        assert one.receive(10, 0.05) == []
        assert time.monotonic() - began >= 0.05
        late = threading.Timer(0.05, lambda: redis.xadd(STREAM, {"event": "a"}))
        late.start()
        assert len(one.receive(10, 2.0)) == 1
        # The entry may be read before its writer has the answer; the client is closed below.
        late.join()
        for _ in range(5):
            redis.xadd(STREAM, {"event": "a"})
        assert len(one.receive(3, 0.01)) == 3


@pytest.mark.parametrize("fields", [{"data": "x"}, {"event": "x", "more": "y"}, {"Event": "x"}])
def test_an_entry_with_other_fields_is_a_fault_with_a_body_to_tell_it_by(valkey, redis, fields):
    redis.xadd(STREAM, fields)
    with (one := source(valkey)).open():
        (message,) = one.receive(10, 0.01)
    assert message.fault == "no_event_field"
    assert all(part.encode() in message.body for pair in fields.items() for part in pair)


@pytest.mark.parametrize("protocol", [2, 3])
def test_an_entry_with_the_event_twice_is_a_fault_whenever_it_comes(valkey, redis, protocol):
    redis.execute_command("XADD", STREAM, "*", "event", "one", "event", "two")
    url = f"{valkey.url}?protocol={protocol}"
    with (one := source(valkey, url=url, claim_idle_s=0.0)).open():
        found = [one.receive(10, 0.01)[0] for _ in range(2)]
    assert [each.fault for each in found] == ["no_event_field"] * 2
    assert [each.deliveries for each in found] == [1, 2]
    assert all(part in found[0].body for part in (b"one", b"two"))


def test_deliveries_are_known_also_between_others_that_are_not_due(valkey, redis):
    first, second, third = (redis.xadd(STREAM, {"event": name}) for name in "abc")
    with (one := source(valkey, claim_idle_s=30.0)).open():
        one.receive(10, 0.01)
        # Redis counts from here: only these two were last handed out long ago.
        for place in (first, third):
            redis.xclaim(STREAM, GROUP, one._name, 0, [place], idle=60_000, retrycount=4)
        found = one.receive(10, 0.01)
    assert [(each.position.encode(), each.deliveries) for each in found] == [
        (name if isinstance(name, bytes) else name.encode(), 5) for name in (first, third)
    ]
    assert second not in (first, third)


def test_both_protocols_of_redis_give_the_same(valkey, redis):
    for protocol in (2, 3):
        redis.xadd(STREAM, {"event": "a"})
        redis.xadd(STREAM, {"event": "b"})
        one = source(valkey, url=f"{valkey.url}?protocol={protocol}", claim_idle_s=0.0)
        with one.open():
            assert one.lag() == 2
            read = one.receive(10, 0.01)
            again = one.receive(10, 0.01)
            assert [each.body for each in read] == [each.body for each in again] == [b"a", b"b"]
            assert [each.deliveries for each in read + again] == [1, 1, 2, 2]
            one.ack([each.position for each in again])
            assert one.lag() == 0


def test_confirmed_entries_are_deleted_and_others_stay(valkey, redis):
    first, second = (redis.xadd(STREAM, {"event": name}) for name in "ab")
    with (one := source(valkey)).open():
        one.receive(10, 0.01)
        one.ack([first])
        one.ack([first])
        assert [name for name, _ in redis.xrange(STREAM)] == [second]
        assert redis.xpending(STREAM, GROUP)["pending"] == 1


def test_the_dead_are_kept_up_to_a_bound(valkey, redis, monkeypatch):
    monkeypatch.setattr(redis_stream, "MOST_DEAD", 100)
    with (one := source(valkey)).open():
        for start in range(0, 1_000, 100):
            one.park(
                [
                    Parked(position=f"1-{start + n + 1}", reference="r", reason="not_json")
                    for n in range(100)
                ]
            )
    # Trimmed by whole nodes of the stream, which is what `~` means.
    assert 100 <= redis.xlen("s.dead") <= 300


def test_a_clean_end_takes_the_name_out_and_one_with_messages_stays(valkey, redis):
    with source(valkey).open():
        pass
    assert consumers(redis) == []
    redis.xadd(STREAM, {"event": "a"})
    with (one := source(valkey)).open():
        one.receive(10, 0.01)
    assert len(consumers(redis)) == 1
    assert redis.xpending(STREAM, GROUP)["pending"] == 1


def test_names_of_bridges_that_are_long_gone_are_forgotten_unless_they_hold_messages(
    valkey, redis, monkeypatch
):
    redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    redis.xgroup_createconsumer(STREAM, GROUP, "gone")
    redis.xadd(STREAM, {"event": "a"})
    redis.xreadgroup(GROUP, "holds", {STREAM: ">"})
    with (one := source(valkey, claim_idle_s=60.0)).open():
        one.receive(1, 0.01)
        assert {"gone", "holds"} <= set(consumers(redis))
        monkeypatch.setattr(redis_stream, "_DAY_MS", -1)
        one._forget_at = 0.0
        one.receive(1, 0.01)
        assert "gone" not in consumers(redis)
        assert "holds" in consumers(redis)


def test_an_entry_that_somebody_deleted_while_it_was_pending_is_passed_over(valkey, redis):
    first, second = (redis.xadd(STREAM, {"event": name}) for name in "ab")
    with (dead := source(valkey)).open():
        dead.receive(10, 0.01)
    redis.xdel(STREAM, first)
    with (one := source(valkey, claim_idle_s=0.0)).open():
        assert [each.position for each in one.receive(10, 0.01)] == [second]


def test_a_server_that_is_gone_or_frozen_is_said_to_be(make_valkey, monkeypatch):
    monkeypatch.setattr(redis_stream, "_ANSWER_S", 0.3)
    server = make_valkey()
    one = source(server)
    with one.open():
        server.freeze()
        with pytest.raises(SourceError) as caught:
            one.lag()
        assert caught.value.fault is QueueFault.TOO_LATE
        server.thaw()
        server.kill()
        with pytest.raises(SourceError) as caught:
            one.receive(1, 0.01)
        assert caught.value.fault is QueueFault.UNREACHABLE
        server.start()
        assert one.receive(1, 0.01) == []


def test_what_a_server_refuses_is_named_by_a_word_and_never_in_its_own_words(valkey, redis):
    redis.acl_setuser(
        "bridge", enabled=True, passwords=[f"+{SECRET}"], keys=["other"], commands=["+@all"]
    )
    address = f"127.0.0.1:{valkey.port}/0"
    redis.set("text", "x")
    cases = {
        f"redis://bridge:wrong-{SECRET}@{address}": (STREAM, QueueFault.LOGIN_REFUSED),
        f"redis://bridge:{SECRET}@{address}": (STREAM, QueueFault.NOT_ALLOWED),
        f"redis://{address}": ("text", QueueFault.NO_STREAM),
    }
    for url, (stream, fault) in cases.items():
        with pytest.raises(SourceError) as caught, source(valkey, url=url, stream=stream).open():
            pass
        assert caught.value.fault is fault
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
        assert caught.value.__suppress_context__
    redis.acl_deluser("bridge")


def test_a_user_that_may_not_write_to_the_dead_still_gets_rid_of_poison(valkey, redis):
    redis.acl_setuser(
        "bridge", enabled=True, passwords=[f"+{SECRET}"], keys=[STREAM], commands=["+@all"]
    )
    place = redis.xadd(STREAM, {"event": "garbage"})
    one = source(valkey, url=f"redis://bridge:{SECRET}@127.0.0.1:{valkey.port}/0")
    with one.open():
        one.receive(1, 0.01)
        one.park([Parked(position=place, reference="r", reason="not_json")])
    redis.acl_deluser("bridge")
    assert redis.xlen(STREAM) == redis.xlen("s.dead") == 0


def test_the_user_of_the_documents_may_do_all_that_a_bridge_does(valkey, redis):
    commands = ["+@stream", "+@transaction", "+@connection", "+eval"]
    redis.acl_setuser(
        "bridge",
        enabled=True,
        passwords=[f"+{SECRET}"],
        keys=[STREAM, f"{STREAM}.dead"],
        commands=commands,
    )
    assert " ".join(commands) in (Path(__file__).parents[2] / "docs" / "queues.md").read_text()
    places = [redis.xadd(STREAM, {"event": "a"}) for _ in range(2)]
    one = source(valkey, url=f"redis://bridge:{SECRET}@127.0.0.1:{valkey.port}/0", claim_idle_s=0.0)
    with one.open():
        assert len(one.receive(10, 0.01)) == len(one.receive(10, 0.01)) == 2
        one.ack(places[:1])
        one.park([Parked(position=places[1], reference="r", reason="not_json")])
        assert one.lag() == 0
    assert consumers(redis) == []
    assert redis.xlen("s.dead") == 1
    redis.acl_deluser("bridge")
