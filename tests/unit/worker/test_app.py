"""The Celery side: one task, no arguments, and a doorbell that stays quiet."""

import json
import time

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.doorbell import (
    BELL_KEY,
    BELL_MS,
    MOST_WAITING,
    QUEUE,
    TASK,
    celery_settings,
    ring,
)
from ledger.settings import Settings
from worker.app import make_app, make_bell
from worker.busy import Busy
from worker.stop import StopFlag


@pytest.fixture
def app(tmp_path):
    return make_app(Settings(home=tmp_path), StopFlag(), Busy())


@pytest.fixture
def store():
    return fakeredis.FakeStrictRedis()


def test_the_only_task_that_a_message_can_start_is_the_drain(app):
    assert set(app.tasks) == {TASK} == {"expunge.drain"}


def test_the_drain_takes_no_arguments_and_returns_nothing(app):
    with pytest.raises(TypeError):
        app.tasks[TASK](1)
    assert app.tasks[TASK].ignore_result


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_serializer", "json"),
        ("accept_content", ["json"]),
        ("result_accept_content", ["json"]),
        ("result_backend", None),
        ("task_ignore_result", True),
        ("task_acks_late", True),
        ("task_default_queue", QUEUE),
        ("worker_enable_remote_control", False),
        ("worker_send_task_events", False),
        ("task_send_sent_event", False),
        ("worker_prefetch_multiplier", 1),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("broker_connection_retry_on_startup", True),
        ("broker_connection_max_retries", None),
    ],
)
def test_celery_is_set_as_the_design_says(app, name, value):
    assert app.conf[name] == value


def test_publishing_can_never_wait_for_ever():
    settings = celery_settings("redis://127.0.0.1:1/0", socket_timeout_s=0.1)

    options = settings["broker_transport_options"]
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.1
    assert settings["task_publish_retry"] is False
    assert settings["broker_pool_acquire_timeout"] is not None


# -- ringing --------------------------------------------------------------------------------------


def publisher(store):
    return lambda: store.lpush(QUEUE, "message")


def test_a_ring_sends_one_message_and_the_next_ones_none(store):
    rung = [ring(store, publisher(store)) for _ in range(50)]

    assert rung == [True] + [False] * 49
    assert store.llen(QUEUE) == 1
    assert 0 < store.pttl(BELL_KEY) <= BELL_MS


def test_the_bell_can_be_rung_again_after_a_while(store):
    ring(store, publisher(store))
    store.delete(BELL_KEY)  # as its time-out does

    assert ring(store, publisher(store))


@given(waiting=st.integers(0, 3 * MOST_WAITING), rings=st.integers(0, 3 * MOST_WAITING))
def test_no_number_of_rings_puts_more_than_so_many_messages_in_the_queue(waiting, rings):
    store = fakeredis.FakeStrictRedis()
    for _ in range(waiting):
        store.lpush(QUEUE, "message")
    for _ in range(rings):
        ring(store, publisher(store))
        store.delete(BELL_KEY)

    assert store.llen(QUEUE) == max(waiting, min(MOST_WAITING, waiting + rings))


def test_a_flush_makes_the_bell_ring_again(store):
    ring(store, publisher(store))
    store.flushall()

    assert ring(store, publisher(store))


def test_what_is_published_is_the_bare_task(app, valkey):
    app.conf.broker_url = valkey.url
    app.conf.update(celery_settings(valkey.url))
    bell = make_bell(Settings(home="/nowhere", redis_url=valkey.url), app)

    assert bell() is True
    assert bell() is True  # rung already; nothing more to do

    with valkey.client() as client:
        (message,) = client.lrange(QUEUE, 0, -1)
    body = json.loads(message)
    assert body["headers"]["task"] == TASK
    assert body["headers"]["argsrepr"] == "()"
    assert body["headers"]["kwargsrepr"] == "{}"
    assert body["headers"]["eta"] is None
    assert len(message) < 1_500


@pytest.mark.parametrize(("how", "seconds"), [("gone", 1), ("frozen", 5)])
def test_a_broker_that_is_not_there_costs_the_steward_little_time(app, make_valkey, how, seconds):
    server = make_valkey()
    app.conf.update(celery_settings(server.url, socket_timeout_s=1.0))
    bell = make_bell(Settings(home="/nowhere", redis_url=server.url), app)
    if how == "gone":
        server.kill()
    else:
        server.freeze()
    started = time.monotonic()

    assert bell() is False

    assert time.monotonic() - started < seconds
