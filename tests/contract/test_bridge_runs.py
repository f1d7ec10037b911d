"""Whole bridges in threads: several streams, and a Redis that dies in the middle."""

import threading
from contextlib import contextmanager

import pytest

from ledger import Keys, Ledger
from ledger.errors import LedgerError
from ledger.projects import Project
from ledger.states import Kind, Lane
from ledger.streams import Stream
from producer import Producer
from producer.bridge import BridgeProgress, StreamProgress, StreamState, metrics, run_bridge
from producer.bridge import bridge as bridge_module
from producer.bridge.bridge import principal_of
from tests.contract.bridge_world import CANARY, LONGEST_S, an_event, until
from tests.support.homes import make_home


@contextmanager
def running(settings, *streams, on_turn=None):
    """Run a bridge in a thread, and stop it at the end; gives its progress."""
    stop = threading.Event()
    started: list[BridgeProgress] = []
    thread = threading.Thread(
        target=run_bridge,
        args=(settings, streams),
        kwargs={"stop": stop, "on_turn": on_turn, "on_start": started.append},
    )
    thread.start()
    try:
        until(lambda: started or not thread.is_alive())
        yield started[0]
    finally:
        stop.set()
        thread.join(LONGEST_S)
    assert not thread.is_alive()


def requests(settings):
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        return ledger.list_requests(limit=1_000)


def test_each_stream_orders_for_its_own_project_and_ends_in_time(tmp_path, valkey):
    crm = Project(
        name="crm",
        account="default",
        base_url="https://memos.example",
        api_key=None,
        lane=Lane.BULK,
    )
    settings = make_home(tmp_path, redis_url=valkey.url, more_projects={"crm": crm})
    streams = [Stream(name="one"), Stream(name="two", project="crm", url=valkey.url)]
    turned: list[StreamProgress] = []
    with valkey.client() as redis:
        with running(settings, *streams, on_turn=turned.append) as progress:
            redis.xadd("one", {"event": an_event(1)})
            redis.xadd("two", {"event": an_event(1)})
            until(lambda: redis.xlen("one") + redis.xlen("two") == 0)
            assert {each.state for each in progress.streams} <= set(StreamState)
            before = progress.last_turn
            until(lambda: progress.last_turn > before)
        assert {each.state for each in progress.streams} == {StreamState.ENDED}
        assert {each.stream for each in turned} == {"one", "two"}
    found = {view.project: view for view in requests(settings)}
    assert set(found) == {"default", "crm"}
    assert (found["default"].lane, found["crm"].lane) == ("erasure", "bulk")


def test_a_redis_that_dies_and_comes_back_empty_loses_nothing_that_was_taken(tmp_path, make_valkey):
    """What it lost before it was read is sent again; what was taken in is not doubled by that."""
    server = make_valkey()
    settings = make_home(tmp_path, redis_url=server.url)
    stream = Stream(name="s")

    def send():
        with server.client() as redis, redis.pipeline(transaction=False) as some:
            for n in range(700):
                some.xadd("s", {"event": an_event(n)})
            some.execute()

    busy = threading.Event()

    def noticed(progress):
        if progress.state is StreamState.READING:
            busy.set()

    send()
    with running(settings, stream, on_turn=noticed) as progress:
        assert busy.wait(LONGEST_S)
        server.kill()
        until(lambda: progress.streams[0].state is StreamState.WAITING_FOR_QUEUE)
        server.start()
        send()
        with server.client() as redis:
            until(lambda: redis.xlen("s") == 0)
    views = requests(settings)
    assert len(views) == 700
    assert {view.kind for view in views} == {Kind.USER}


def test_a_ledger_that_is_away_is_waited_for_and_said_to_be(tmp_path, valkey, monkeypatch):
    settings = make_home(tmp_path, redis_url=valkey.url)
    away = threading.Event()
    away.set()
    take_many = Ledger.take_many

    def flaky(self, orders, *, chunk_size):
        if away.is_set():
            message = "The ledger did not confirm."
            raise LedgerError(message)
        return take_many(self, orders, chunk_size=chunk_size)

    monkeypatch.setattr(Ledger, "take_many", flaky)
    with valkey.client() as redis, running(settings, Stream(name="s")) as progress:
        redis.xadd("s", {"event": an_event(1)})
        until(lambda: progress.streams[0].state is StreamState.WAITING_FOR_LEDGER)
        assert redis.xlen("s") == 1
        away.clear()
        until(lambda: redis.xlen("s") == 0)
    assert len(requests(settings)) == 1


def test_a_thread_that_is_late_at_the_end_still_has_the_ledger(tmp_path, valkey, monkeypatch):
    settings = make_home(tmp_path, redis_url=valkey.url)
    monkeypatch.setattr(bridge_module, "_END_S", 0.05)
    begun, go_on = threading.Event(), threading.Event()
    hand_in_many = Producer.hand_in_many

    def slow(self, requests):
        begun.set()
        assert go_on.wait(LONGEST_S)
        return hand_in_many(self, requests)

    monkeypatch.setattr(Producer, "hand_in_many", slow)
    with valkey.client() as redis:
        redis.xadd("s", {"event": an_event(1)})
        with running(settings, Stream(name="s")) as progress:
            assert begun.wait(LONGEST_S)
        assert progress.streams[0].state is not StreamState.ENDED
        go_on.set()
        until(lambda: progress.streams[0].state is StreamState.ENDED)
        assert redis.xlen("s") == redis.xlen("s.dead") == 0
    assert len(requests(settings)) == 1


def test_messages_are_counted_by_what_became_of_them(tmp_path, valkey):
    settings = make_home(tmp_path, redis_url=valkey.url)
    name = "counted"
    with valkey.client() as redis:
        for text in (an_event(1), an_event(1), an_event(2), "garbage"):
            redis.xadd(name, {"event": text})
        with running(settings, Stream(name=name)):
            until(lambda: redis.xlen(name) == 0)
    outcomes = {
        outcome: metrics.MESSAGES.labels("redis", name, outcome)._value.get()
        for outcome in ("accepted", "duplicate", "invalid")
    }
    assert outcomes == {"accepted": 2, "duplicate": 1, "invalid": 1}
    assert metrics.ACCEPTED.labels(name, "user")._value.get() == 2
    assert metrics.DEDUPLICATED.labels(name)._value.get() == 1
    assert metrics.REJECTED.labels(name, "not_json")._value.get() == 1


def test_the_log_names_no_message(tmp_path, valkey, capsys):
    settings = make_home(tmp_path, redis_url=valkey.url)
    with valkey.client() as redis:
        redis.xadd("s", {"event": an_event(CANARY, {CANARY: 1})})
        redis.xadd("s", {"event": an_event(1)})
        with running(settings, Stream(name="s")):
            until(lambda: redis.xlen("s") == 0)
    written = "".join(capsys.readouterr())
    assert "message_parked" in written
    assert CANARY not in written


@pytest.mark.parametrize(
    ("stream", "principal"),
    [
        (Stream(name="crm-deletions"), "crm-deletions"),
        (Stream(name="crm deletions"), "queue"),
        (Stream(name="x" * 65), "queue"),
        (Stream(name="crm", principal="billing"), "billing"),
    ],
)
def test_who_hands_in_is_named_by_the_settings_or_the_stream(stream, principal):
    assert principal_of(stream) == principal
