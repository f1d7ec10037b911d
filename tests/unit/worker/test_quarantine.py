"""What may ring, and what is refused and why."""

import json
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.doorbell import QUEUE, celery_settings
from tests.support.forged import LIVELY, POISON, ring_with
from worker.quarantine import LONGEST_BYTES, RejectReason, judge


def as_bytes(message):
    return message if isinstance(message, bytes) else message.encode()


@pytest.mark.parametrize("name", POISON)
def test_what_nobody_of_ours_would_send_is_refused(name):
    assert judge(as_bytes(POISON[name])) in set(RejectReason)


@pytest.mark.parametrize("name", LIVELY)
def test_what_rings_rings_whatever_else_it_says(name):
    assert judge(as_bytes(LIVELY[name])) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("garbage", "not_json"),
        ("100,000 nested brackets", "too_long"),
        ("5 MB of an id", "too_long"),
        ("a number", "not_a_message"),
        ("null headers", "not_a_message"),
        ("celery.map", "unknown_task"),
        ("an object for a body", "bad_body"),
        ("a pickle", "bad_body"),
        ("an argument", "arguments"),
    ],
)
def test_the_reason_is_a_word_that_says_which(name, reason):
    assert judge(as_bytes(POISON[name])) == reason


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_whatever_raise_anything(raw):
    assert judge(raw) in set(RejectReason)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@given(_JSON, st.sampled_from(["body", "headers", "properties", "content-type"]))
def test_no_value_in_any_place_raises_anything(value, place):
    message = json.loads(ring_with())
    message[place] = value
    reason = judge(json.dumps(message).encode())
    assert (reason is None) == (place in {"properties", "content-type"})


@given(_JSON)
def test_only_a_body_without_arguments_rings(body):
    assume(not (isinstance(body, list) and len(body) == 3 and body[:2] == [[], {}]))
    assert judge(ring_with(body=body).encode()) in {RejectReason.BAD_BODY, RejectReason.ARGUMENTS}


def test_a_cut_ring_is_refused_wherever_it_is_cut():
    whole = ring_with().encode()
    chance = random.Random(1)
    for at in chance.sample(range(len(whole)), 50):
        assert judge(whole[:at]) in set(RejectReason)


def test_what_our_own_senders_publish_rings_and_is_far_from_too_long(valkey):
    from celery import Celery  # noqa: PLC0415

    app = Celery("sender", set_as_current=False)
    app.conf.update(celery_settings(valkey.url))
    with app.connection_for_write(url=valkey.url) as connection:
        app.send_task("expunge.drain", queue=QUEUE, connection=connection, ignore_result=True)
    with valkey.client() as client:
        raw = client.lpop(QUEUE).encode()
    assert judge(raw) is None
    assert len(raw) < LONGEST_BYTES / 10
