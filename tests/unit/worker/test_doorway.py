"""The transport between Redis and Celery, without Celery: what comes out at the other end."""

import json
import socket
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from ledger.doorbell import QUEUE, TASK, celery_settings
from tests.support.forged import LIVELY, POISON, ring_with
from worker import doorway
from worker.doorway import TRANSPORT, make_ring
from worker.reconnecting import Connection as PatientConnection
from worker.seldom import Seldom


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(doorway, "_seldom", Seldom())


@pytest.fixture
def connection(valkey):
    options = celery_settings(valkey.url)["broker_transport_options"]
    with Connection(valkey.url, transport=TRANSPORT, transport_options=options) as one:
        yield one


def heard(connection, *, seconds=1.0):
    """Give the messages that come out until none has come for a while."""
    messages: list[Any] = []
    queue = Queue(QUEUE, durable=True)
    with Consumer(connection, [queue], on_message=messages.append, accept=["json"]):
        while True:
            try:
                connection.drain_events(timeout=seconds)
            except socket.timeout:  # noqa: UP041 - kombu's, by its name
                return messages


def rejected(reason):
    found = REGISTRY.get_sample_value("expunge_doorbell_rejected_total", {"reason": reason})
    return found or 0.0


@pytest.mark.fault("F28")
def test_poison_is_gone_counted_and_told_of_once_for_each_reason(connection, valkey):
    before = {reason: rejected(reason) for reason in doorway_reasons()}
    with valkey.client() as client:
        for message in [*POISON.values(), *POISON.values(), ring_with()]:
            client.lpush(QUEUE, message)
        with capture_logs() as logs:
            messages = heard(connection, seconds=3)
        assert client.llen(QUEUE) == 0
        assert not client.exists("unacked", "unacked_index")

    assert len(messages) == 1  # the ring that came last
    counted = {reason: rejected(reason) - before[reason] for reason in before}
    assert sum(counted.values()) == 2 * len(POISON)
    assert all(counted.values())
    assert sorted(line["reason"] for line in logs) == sorted(counted)
    assert {line["event"] for line in logs} == {"doorbell_rejected"}
    assert all(line.keys() == {"event", "log_level", "reason", "messages"} for line in logs)


def doorway_reasons():
    return ["too_long", "not_json", "not_a_message", "unknown_task", "bad_body", "arguments"]


@pytest.mark.fault("F28")
def test_every_ring_comes_out_as_the_same_message_whatever_it_says(connection, valkey):
    with valkey.client() as client:
        client.lpush(QUEUE, *LIVELY.values())
    messages = heard(connection)

    assert len(messages) == len(LIVELY)
    numbers = [message.headers["id"] for message in messages]
    assert len(set(numbers)) == len(numbers)
    for message in messages:
        number = message.headers["id"]
        assert message.payload == [[], {}, {}]
        assert message.headers == make_ring()["headers"] | {"id": number, "root_id": number}


def test_a_ring_is_made_of_constants_and_can_be_read(connection, valkey):
    ring = make_ring()
    assert json.loads(json.dumps(ring)) == ring
    assert ring["headers"]["task"] == TASK
    assert not {"eta", "expires", "timelimit", "shadow"} & ring["headers"].keys()


def test_nothing_of_what_was_heard_is_kept_or_put_back(connection, valkey):
    with valkey.client() as client:
        client.lpush(QUEUE, *[ring_with()] * 3)
        for message in heard(connection):
            message.reject(requeue=True)
        assert not client.exists(QUEUE, "unacked", "unacked_index")
        client.lpush(QUEUE, *[ring_with()] * 3)
        assert len(heard(connection)) == 3
        connection.close()  # with three that nobody acknowledged
        assert not client.exists(QUEUE, "unacked", "unacked_index")


def test_other_lists_are_not_read(connection, valkey):
    with valkey.client() as client:
        for priority in (3, 6, 9):
            client.lpush(f"{QUEUE}\x06\x16{priority}", ring_with())
        assert heard(connection) == []


@pytest.mark.fault("F30")
def test_a_refusal_is_told_of_and_reading_goes_on_later(connection, valkey, monkeypatch):
    monkeypatch.setattr(doorway, "_ASK_AGAIN_S", 0.2)
    with valkey.client() as client, capture_logs() as logs:
        client.set(QUEUE, "no list")
        assert heard(connection, seconds=1) == []
        client.delete(QUEUE)
        client.lpush(QUEUE, ring_with())
        assert len(heard(connection, seconds=1)) == 1
    assert [(line["event"], line["reason"]) for line in logs] == [("broker_refuses", "wrong_type")]


@pytest.mark.fault("F19")
def test_a_redis_that_is_full_is_connected_to_and_read(connection, valkey):
    with valkey.client() as client:
        client.lpush(QUEUE, ring_with())
        client.config_set("maxmemory", 1)
        try:
            assert len(heard(connection)) == 1
        finally:
            client.config_set("maxmemory", 0)


@pytest.mark.fault("F13")
def test_no_pause_before_the_next_try_to_connect_is_long(monkeypatch):
    """Kombu's own grow to 30 s, and a Redis that is back has to be heard within 15."""
    given = {}
    monkeypatch.setattr(
        "kombu.connection.Connection.ensure_connection",
        lambda _self, *_, **kwargs: given.update(kwargs),
    )
    PatientConnection("redis://127.0.0.1:1/0").ensure_connection(errback=None)
    assert given["interval_max"] <= 5


@pytest.mark.parametrize(
    ("url", "verified"),
    [("redis://h/0", None), ("rediss://h/0", "required")],
)
def test_a_certificate_is_looked_at_unless_the_address_says_otherwise(url, verified):
    given = celery_settings(url)["broker_use_ssl"]
    assert (given or {}).get("ssl_cert_reqs") == verified
    if given:
        with Connection(f"{url}?ssl_cert_reqs=none", transport=TRANSPORT, ssl=given) as other:
            assert other.ssl["ssl_cert_reqs"] == 0
