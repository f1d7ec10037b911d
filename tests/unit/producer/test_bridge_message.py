"""What a message may say, and that nothing else is ever taken for an order."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.states import Kind, Lane
from producer.bridge.message import EVENT_TYPE, PoisonError, read_event
from producer.bridge.reasons import MOST_BYTES, SENTENCES, Reason

CANARY = "canary-7d1f"
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


def an_event(**changed):
    """A good event; None takes an attribute out."""
    event = {
        "specversion": "1.0",
        "type": EVENT_TYPE,
        "source": "/crm",
        "id": "4711",
        "data": {"user_id": CANARY},
    } | changed
    return {name: value for name, value in event.items() if value is not None}


def encoded(**changed):
    return json.dumps(an_event(**changed)).encode()


def poison(body):
    with pytest.raises(PoisonError) as caught:
        read_event(body)
    error = caught.value
    assert CANARY not in error.detail + str(error) + repr(error)
    assert error.detail.endswith(".")
    return error.reason


@pytest.mark.parametrize(
    ("data", "kind", "subject", "ids"),
    [
        ({"user_id": "u"}, Kind.USER, "u", ()),
        ({"agent_id": "a"}, Kind.AGENT, "a", ()),
        ({"memory_ids": ["m", " n"]}, Kind.MEMORIES, None, ("m", " n")),
        ({"memory_ids": ["m"], "user": "u"}, Kind.MEMORIES, "u", ("m",)),
    ],
)
def test_an_event_orders_what_its_data_says(data, kind, subject, ids):
    fields = read_event(encoded(data=data)).fields
    assert (fields.kind, fields.subject, fields.memory_ids) == (kind, subject, ids)


def test_the_terms_of_an_order_come_along():
    data = {
        "user_id": "u",
        "lane": "bulk",
        "verify": "sample:7",
        "reason": "gdpr-17",
        "submitted_at": "2026-11-20T09:00:00Z",
        "due_at": "2026-12-01T00:00:00+01:00",
        "not_before": "2026-11-21T00:00:00Z",
    }
    terms = read_event(encoded(data=data, time="2026-11-01T00:00:00Z")).fields.terms
    assert (terms["lane"], terms["verify"], terms["reason"]) == (Lane.BULK, "sample:7", "gdpr-17")
    assert terms["submitted_at"] == datetime(2026, 11, 20, 9, tzinfo=UTC)


def test_a_purge_may_include_what_comes_later_and_a_batch_may_not():
    for said in (True, False):
        order = {"user_id": "u", "include_later": said}
        assert read_event(encoded(data=order)).fields.terms == {"include_later": said}
    wrong: list[dict[str, Any]] = [
        {"memory_ids": ["m"], "include_later": True},
        {"memory_ids": ["m"], "include_later": False},
        {"user_id": "u", "include_later": "true"},
        {"user_id": "u", "include_later": 1},
        {"user_id": "u", "include_later": None},
    ]
    for data in wrong:
        assert poison(encoded(data=data)) is Reason.WRONG_DATA


def test_without_submitted_at_the_events_time_is_when_the_person_asked():
    terms = read_event(encoded(time="2026-11-01T10:00:00+01:00")).fields.terms
    assert terms == {"submitted_at": datetime(2026, 11, 1, 9, tzinfo=UTC)}
    assert read_event(encoded()).fields.terms == {}


def test_source_and_id_are_the_key_and_nothing_joins_them_wrongly():
    pairs = [("a", "bc"), ("ab", "c"), ("abc", "x"), ("a", "b"), ("b", "a"), ("A", "b"), ("é", "b")]
    keys = {read_event(encoded(source=source, id=name)).key for source, name in pairs}
    assert len(keys) == len(pairs)
    same = {read_event(encoded(data={"agent_id": str(n)}, time=None)).key for n in range(3)}
    assert len(same) == 1
    assert all(len(key) <= 200 and key.isascii() for key in keys)


@pytest.mark.parametrize(
    "changed",
    [
        {"time": "2026-11-20T09:00:00.123456Z"},
        {"datacontenttype": "application/json"},
        {"datacontenttype": "Application/JSON; charset=utf-8"},
        {"subject": "whatever", "dataschema": "https://example.org/x"},
        {"partitionkey": "p", "sequence": 5, "sampled": True},
        {"traceparent": "nonsense"},
        {"traceparent": 5},
    ],
)
def test_attributes_that_the_specification_allows_are_taken(changed):
    assert read_event(encoded(**changed)).fields.subject == CANARY


def test_null_is_the_same_as_absent():
    body = json.dumps(an_event() | {"time": None, "data_base64": None, "subject": None}).encode()
    assert read_event(body).fields.subject == CANARY
    assert poison(json.dumps(an_event() | {"id": None}).encode()) is Reason.NOT_AN_EVENT


def test_a_trace_context_comes_along_when_it_is_one():
    assert read_event(encoded(traceparent=TRACE)).traceparent == TRACE
    for other in (TRACE.upper(), f"ff{TRACE[2:]}", TRACE[:-1], f"00-{'0' * 32}-{'b' * 16}-01", 7):
        assert read_event(encoded(traceparent=other)).traceparent is None


NO_ORDERS: list[Any] = [
    {},
    [],
    "user_id",
    5,
    False,
    {"memory_ids": []},
    {"memory_ids": CANARY},
    {"memory_ids": {CANARY: 1}},
    {"memory_ids": [""]},
    {"memory_ids": [CANARY, 7]},
    {"memory_ids": [CANARY, None]},
    {"memory_ids": [CANARY, "\ud800"]},
    {"memory_ids": [[CANARY]]},
    {"memory_ids": ["m"], "user_id": CANARY},
    {"user_id": CANARY, "agent_id": CANARY},
    {"user_id": CANARY, "user": CANARY},
    {"user_id": ""},
    {"user_id": " "},
    {"user_id": 7},
    {"user_id": None},
    {"user_id": [CANARY]},
    {"user_id": CANARY * 20},
    {"user_id": CANARY, "filter": {}},
    {"user_id": CANARY, CANARY: 1},
    {"user_id": CANARY, "lane": "fast"},
    {"user_id": CANARY, "lane": ["bulk"]},
    {"user_id": CANARY, "reason": None},
    {"user_id": CANARY, "due_at": "tomorrow"},
    {"user_id": CANARY, "submitted_at": 5},
]
DEEP = b'{"data":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
POISON = [
    (Reason.NOT_JSON, b""),
    (Reason.NOT_JSON, b"garbage " + CANARY.encode()),
    (Reason.NOT_JSON, b"\xff\xfe\x00"),
    (Reason.NOT_JSON, json.dumps(an_event()).encode("utf-16")),
    (Reason.NOT_JSON, b"\xef\xbb\xbf" + encoded()),
    (Reason.NOT_JSON, b"[" + encoded() + b"]"),
    (Reason.NOT_JSON, b'"' + CANARY.encode() + b'"'),
    (Reason.NOT_JSON, encoded() + b"x"),
    (Reason.NOT_JSON, encoded()[:-1] + b',"id":"other"}'),
    (Reason.NOT_JSON, encoded()[:-2] + b',"user_id":"other"}}'),
    (Reason.NOT_JSON, encoded(x=float("nan"))),
    (Reason.NOT_JSON, encoded(x=float("inf"))),
    (Reason.NOT_JSON, encoded()[:-1] + b',"n":' + b"1" * 5_000 + b"}"),
    (Reason.NOT_JSON, DEEP),
    (Reason.TOO_BIG, b"x" * (MOST_BYTES + 1)),
    (Reason.TOO_BIG, encoded(data={"memory_ids": [CANARY] * 6_000})),
    (Reason.NOT_AN_EVENT, b"{}"),
    (Reason.NOT_AN_EVENT, encoded(specversion=None)),
    (Reason.NOT_AN_EVENT, encoded(specversion="0.3")),
    (Reason.NOT_AN_EVENT, encoded(specversion=1)),
    (Reason.NOT_AN_EVENT, encoded(specversion=1.0)),
    *((Reason.NOT_AN_EVENT, encoded(**{name: None})) for name in ("type", "source", "id")),
    *((Reason.NOT_AN_EVENT, encoded(**{name: ""})) for name in ("type", "source", "id")),
    *((Reason.NOT_AN_EVENT, encoded(**{name: 7})) for name in ("type", "source", "id")),
    (Reason.NOT_AN_EVENT, encoded(id=f"{CANARY}\n")),
    (Reason.NOT_AN_EVENT, encoded(source="\ud800")),
    (Reason.NOT_AN_EVENT, encoded(time="yesterday")),
    (Reason.NOT_AN_EVENT, encoded(time="2026-11-20T09:00:00")),
    (Reason.NOT_AN_EVENT, encoded(time=1_700_000_000)),
    (Reason.NOT_AN_EVENT, encoded(datacontenttype="text/xml")),
    (Reason.NOT_AN_EVENT, encoded(datacontenttype=True)),
    (Reason.NOT_AN_EVENT, encoded(subject=5)),
    (Reason.NOT_AN_EVENT, encoded(dataschema=5)),
    (Reason.NOT_AN_EVENT, encoded(data_base64="eyJ1c2VyX2lkIjoidSJ9")),
    (Reason.NOT_AN_EVENT, encoded(data=None, data_base64="eyJ1c2VyX2lkIjoidSJ9")),
    (Reason.NOT_AN_EVENT, encoded(user_id=CANARY)),
    (Reason.NOT_AN_EVENT, encoded(**{CANARY: 1})),
    (Reason.NOT_AN_EVENT, encoded(Data={"user_id": "u"})),
    (Reason.NOT_AN_EVENT, encoded(**{"x" * 21: 1})),
    (Reason.NOT_AN_EVENT, encoded(extension={"user_id": CANARY})),
    (Reason.NOT_AN_EVENT, encoded(extension=[CANARY])),
    (Reason.NOT_AN_EVENT, encoded(extension=0.5)),
    (Reason.WRONG_TYPE, encoded(type="com.example.user.deleted")),
    (Reason.WRONG_TYPE, encoded(type=f"{EVENT_TYPE} ")),
    (Reason.WRONG_DATA, encoded(data=None)),
    *((Reason.WRONG_DATA, encoded(data=data)) for data in NO_ORDERS),
    (Reason.FIELD_NOT_ALLOWED, encoded(data={"user_id": CANARY, "project": "other"})),
    (Reason.FIELD_NOT_ALLOWED, encoded(data={"user_id": CANARY, "idempotency_key": CANARY})),
    (Reason.FIELD_NOT_ALLOWED, encoded(data={"user_id": CANARY, "project": None})),
]


@pytest.mark.parametrize(("reason", "body"), POISON, ids=lambda each: repr(each)[:60])
def test_what_is_not_an_order_in_full_is_poison_with_its_reason(reason, body):
    assert poison(body) is reason


def test_every_reason_has_a_sentence():
    assert set(SENTENCES) == set(Reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
NAMES = st.sampled_from(["memory_ids", "user_id", "agent_id", "user", "lane", "project", "x"])
DATA = st.dictionaries(NAMES, JSON | st.lists(st.text(max_size=4), max_size=3), max_size=3)


@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))
)
@example(b"null")
@example(b'{"a":1e999}')
def test_any_bytes_are_an_order_or_poison_and_never_an_exception(body):
    with pytest.raises(PoisonError):
        read_event(body)


@given(
    data=DATA | JSON,
    changed=st.dictionaries(
        st.sampled_from(["id", "source", "type", "specversion", "time", "x", "X"]), JSON, max_size=2
    ),
)
def test_nothing_is_ordered_that_the_json_does_not_spell_out(data, changed):
    body = json.dumps(an_event() | {"data": data} | changed).encode("utf-8")
    try:
        fields = read_event(body).fields
    except PoisonError:
        return
    assert isinstance(data, dict)
    named = [name for name in ("memory_ids", "user_id", "agent_id") if name in data]
    assert len(named) == 1
    if fields.kind is Kind.MEMORIES:
        assert list(fields.memory_ids) == data["memory_ids"]
        assert fields.memory_ids
        assert fields.subject == data.get("user")
    else:
        assert fields.subject == data[f"{fields.kind.value}_id"]
        assert fields.subject
        assert fields.memory_ids == ()
