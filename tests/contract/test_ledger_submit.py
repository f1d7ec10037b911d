"""Handing in: what is taken byte for byte, and what is refused with nothing half written."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger.errors import RequestError
from ledger.schema import NOT_URGENT, chunk, event, request
from ledger.states import ChunkState, Kind, Lane, RequestState
from ledger.tasks import Delivered
from tests.support.ledger_world import make_order, places_and_ids, settled

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def sizes(world):
    return {table.name: len(world.rows(table)) for table in (request, chunk, event)}


def test_a_batch_becomes_chunks_of_at_most_the_chunk_size_in_its_order(world):
    ids = [f"m{n}" for n in range(25)]
    receipt = world.submit(ids, chunk_size=10)
    assert (receipt.state, receipt.requested, receipt.unique) == (RequestState.OPEN, 25, 25)
    rows = world.chunks(receipt.id)
    assert [(row.no, row.n, row.first, row.due_ns) for row in rows] == [
        (0, 10, 0, 0),
        (1, 10, 10, 0),
        (2, 5, 20, 0),
    ]
    assert places_and_ids(world, receipt.id) == dict(enumerate(ids))
    world.check_books()


def test_repeated_ids_are_folded_and_counted_also_across_chunks(world):
    receipt = world.submit(["a", "b", "a", "c", "d", "b", "a", "e"], chunk_size=2)
    assert (receipt.requested, receipt.unique) == (8, 5)
    assert list(places_and_ids(world, receipt.id).values()) == ["a", "b", "c", "d", "e"]
    counts = world.view(receipt.id).counts
    assert (counts.requested, counts.unique, counts.pending) == (8, 5, 5)


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
def test_a_purge_is_one_subject_without_ids(world, kind):
    receipt = world.submit(kind=kind, subject="u 1")
    assert (receipt.requested, receipt.unique) == (1, 1)
    (row,) = world.chunks(receipt.id)
    assert (row.ids, row.n, row.lane) == ("[]", 1, "erasure")
    assert world.view(receipt.id).verify == "full"


def test_a_batch_that_fits_several_transactions_is_sent_only_when_it_is_all_there(world):
    intake = world.ledger.begin(make_order(), chunk_size=1)
    intake.add(f"m{n}" for n in range(450))
    assert world.view(intake.request_id).state is RequestState.RECEIVING
    assert not world.claim().tasks
    receipt = intake.finish()
    assert receipt.unique == 450
    assert {row.due_ns for row in world.chunks(receipt.id)} == {0}
    assert world.row(request).releasing == 0
    world.check_books()


# -- nothing is half written ----------------------------------------------------------------------

BAD_IDS = [
    [""],
    ["  "],
    ["a" * 257],
    ["ok", "a\x00b"],
    ["ok", "a\nb"],
    ["ok", "\ud800"],
    ["ok", "a\ufffe"],
    [None],
    [17],
    [b"bytes"],
    [["nested"]],
]
BAD_ORDERS = [
    {"subject": ""},
    {"subject": "u" * 101},
    {"subject": "u\n"},
    {"kind": Kind.USER},
    {"kind": Kind.USER, "subject": None},
    {"kind": Kind.USER, "subject": " "},
    {"kind": Kind.AGENT, "subject": "\ud800"},
    {"verify": "sometimes"},
    {"verify": "sample:0"},
    {"reason": "Mrs Smith asked for it"},
    {"reason": ""},
    {"reason": "r" * 65},
    {"reason": "gdpr-17\n"},
    {"principal": "two words"},
    {"idempotency_key": ""},
    {"idempotency_key": "k" * 201},
    {"idempotency_key": "a\nb"},
    {"idempotency_key": "\ud800"},
    {"submitted_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - the fault under test
    {"due_at": datetime(2026, 1, 1)},  # noqa: DTZ001
    {"not_before": datetime(2026, 1, 1)},  # noqa: DTZ001
    {"submitted_at": datetime(9999, 12, 31, tzinfo=UTC), "lane": Lane.ERASURE},
    {"due_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
    {"not_before": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))},
    {"project": "unknown"},
    {"project": ""},
    {"project": "shop\x00"},
    {"project": "\ud800"},
]


@pytest.mark.parametrize("ids", BAD_IDS)
def test_a_bad_id_is_named_by_its_place_and_nothing_is_written(world, ids):
    intake = world.ledger.begin(make_order(), chunk_size=10)
    with pytest.raises(RequestError, match=f"Memory id number {len(ids)} ") as caught:
        intake.add(ids)
    intake.abandon()
    assert "a" * 257 not in str(caught.value)
    assert sizes(world) == {"request": 0, "chunk": 0, "event": 0}


@pytest.mark.parametrize("fields", BAD_ORDERS)
def test_a_bad_order_is_refused_and_nothing_is_written(world, fields):
    with pytest.raises(RequestError) as caught:
        world.ledger.begin(make_order(**fields), chunk_size=10)
    assert "u" * 101 not in str(caught.value)
    assert sizes(world) == {"request": 0, "chunk": 0, "event": 0}


@pytest.mark.parametrize("size", [0, -1, 1_001])
def test_a_chunk_size_out_of_bounds_names_its_setting(world, size):
    with pytest.raises(RequestError, match=r"1 to 1000 ids; see EXPUNGE_CHUNK_SIZE"):
        world.ledger.begin(make_order(), chunk_size=size)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("ids", [[], iter(())])
def test_an_empty_batch_is_an_error_and_leaves_its_key_free(world, key, ids):
    intake = world.ledger.begin(make_order(idempotency_key=key), chunk_size=10)
    intake.add(ids)
    with pytest.raises(RequestError, match=r"empty batch is never taken for a purge"):
        intake.finish()
    assert world.rows(chunk) == []
    assert {row.state for row in world.rows(request)} <= {"cancelled"}
    assert not world.submit(["a"], idempotency_key=key).duplicate


@pytest.mark.parametrize("text", ["abc", b"abc", ""])
def test_a_single_text_is_not_taken_for_a_list_of_letters(world, text):
    intake = world.ledger.begin(make_order(), chunk_size=10)
    with pytest.raises(RequestError, match=r"one piece of text"):
        intake.add(text)


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
@pytest.mark.parametrize("ids", [["a"], []])
def test_a_purge_takes_no_ids(world, kind, ids):
    intake = world.ledger.begin(make_order(kind, subject="u"), chunk_size=10)
    with pytest.raises(RequestError, match=r"takes no memory ids"):
        intake.add(ids)
    assert sizes(world) == {"request": 0, "chunk": 0, "event": 0}


@pytest.mark.parametrize("key", [None, "k"])
def test_a_bad_id_after_a_million_good_ones_cancels_them_all(world, key):
    intake = world.ledger.begin(make_order(idempotency_key=key), chunk_size=1)
    with pytest.raises(RequestError, match=r"Memory id number 301 "):
        intake.add([*(f"m{n}" for n in range(300)), ""])
    intake.abandon()
    row = world.row(request)
    assert (row.state, row.result, row.pending, row.unique_ids) == ("cancelled", "cancelled", 0, 0)
    world.clock.tick(10)
    world.sweep()
    assert not world.claim().tasks
    # The corrected file goes in under the same key.
    assert not world.submit(["a"], idempotency_key=key).duplicate


@pytest.mark.parametrize("length", [1, 100])
def test_a_user_id_of_up_to_a_hundred_characters_is_kept_byte_for_byte(world, length):
    subject = "é" * (length - 1) + "\U0001f9e8"
    receipt = world.submit(kind=Kind.USER, subject=subject)
    assert world.row(request, request.c.id == receipt.id).subject == subject
    assert world.claim_one().subject == subject


# -- ids are opaque -------------------------------------------------------------------------------

GOOD_IDS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=60
).filter(str.strip)
TWINS = ["\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "a", "\u0430", "A", " a", "a "]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(GOOD_IDS, min_size=1, max_size=25), chunk_size=st.integers(1, 9))
@example(ids=TWINS, chunk_size=3)
@example(
    ids=["'", '"', "\\", "'; DROP TABLE request; --", "%s", ":name", "{}", "\\u0041"], chunk_size=9
)
@example(ids=["\U0001f9e8", "\u200b", "\u202e", "a\u2028", "null", "[]", "\ue000"], chunk_size=2)
def test_ids_come_out_of_the_ledger_as_they_went_in(world, ids, chunk_size):
    receipt = world.submit(ids, chunk_size=chunk_size, verify="none")
    unique = list(dict.fromkeys(ids))
    carried: list[str] = []
    while len(carried) < len(unique):
        task = world.claim_one()
        assert task.request_id == receipt.id
        carried += task.ids
        world.record(settled(task, Delivered()))
    assert carried == unique
    assert list(places_and_ids(world, receipt.id).values()) == unique
    world.advance(receipt.id)
    assert world.view(receipt.id).counts.acknowledged == len(unique)


def test_the_ids_stand_in_the_database_as_plain_ascii_json(world):
    receipt = world.submit(["\U0001f9e8", "é"])
    (row,) = world.chunks(receipt.id)
    assert row.ids.isascii()
    assert json.loads(row.ids) == ["\U0001f9e8", "é"]


# -- order fields ---------------------------------------------------------------------------------


def test_an_order_is_recorded_with_all_it_says(world):
    asked = datetime(2026, 1, 31, 10, tzinfo=timezone(timedelta(hours=2)))
    receipt = world.submit(
        ["a"],
        lane=Lane.ERASURE,
        verify="sample:7",
        reason="gdpr-17",
        subject="u",
        submitted_at=asked,
        principal="crm.export",
    )
    view = world.view(receipt.id)
    assert (view.lane, view.verify, view.reason) == (Lane.ERASURE, "sample:7", "gdpr-17")
    assert view.submitted_at == asked
    assert view.due_at == datetime(2026, 2, 28, 8, tzinfo=UTC)
    row = world.row(request)
    assert (row.principal, row.subject, row.account) == ("crm.export", "u", "acme")


def test_defaults_go_by_the_kind(world):
    bulk = world.view(world.submit(["a"]).id)
    assert (bulk.lane, bulk.due_at, bulk.verify) == (Lane.BULK, None, "sample:50")
    named = world.view(world.submit(["a"], subject="u").id)
    assert named.verify == "full"
    purge = world.view(world.submit(kind=Kind.USER, subject="u").id)
    assert purge.lane is Lane.ERASURE
    assert purge.due_at is not None
    assert {row.urgency for row in world.rows(request)} == {NOT_URGENT}


def test_a_request_for_later_waits_until_the_sweep_opens_it(world):
    now = datetime.fromtimestamp(world.clock.wall_ns / 1e9, tz=UTC)
    receipt = world.submit(["a", "b"], chunk_size=1, not_before=now + timedelta(seconds=60))
    assert receipt.state is RequestState.SCHEDULED
    world.clock.tick(59)
    assert not world.sweep().due
    assert not world.claim().tasks
    world.clock.tick(2)
    assert world.sweep().due
    assert world.view(receipt.id).state is RequestState.OPEN
    assert len(world.claim().tasks) == 2


def test_a_request_for_a_moment_that_is_past_is_open_at_once(world):
    past = datetime.fromtimestamp(world.clock.wall_ns / 1e9 - 5, tz=UTC)
    assert world.submit(["a"], not_before=past).state is RequestState.OPEN
    assert world.submit(["a"], not_before=LATER).state is RequestState.SCHEDULED


def test_no_chunk_is_due_while_a_long_stream_waits_for_its_day(world):
    world.submit([f"m{n}" for n in range(250)], chunk_size=1, not_before=LATER)
    world.clock.tick(100)
    world.sweep()
    assert not world.claim().tasks
    assert len(world.rows(chunk, chunk.c.state == ChunkState.DUE)) == 250
