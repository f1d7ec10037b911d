"""Framing, canonical JSON, ids, due dates, the draw, folding: pure functions of the ledger."""

import hashlib
import json
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import canonical, framed
from ledger.clock import from_wall, to_wall
from ledger.due import default_due, month_after, urgency_of
from ledger.errors import RequestError
from ledger.fold import Folder
from ledger.ids import MAX_ID_BYTES, check_memory_id, check_subject
from ledger.macs import ChunkFields, Macs
from ledger.policy import MAX_SAMPLE, default_verify, draw, parse_verify
from ledger.schema import NOT_URGENT
from ledger.states import CHUNK_MOVES, REQUEST_MOVES, ChunkState, Kind, Lane, RequestState
from tests.support.ledger_world import KEYS

PARTS = st.lists(st.binary(max_size=12), max_size=5)
DOMAINS = st.sampled_from(["expunge/chunk/v1", "expunge/chunk/v11", "expunge/header/v1"])


@given(one=PARTS, other=PARTS, domains=st.tuples(DOMAINS, DOMAINS))
def test_framing_tells_any_two_lists_of_parts_apart(one, other, domains):
    same = (domains[0], one) == (domains[1], other)
    assert (framed(domains[0], *one) == framed(domains[1], *other)) is same


@given(parts=PARTS.filter(bool), cut=st.integers(0, 12))
def test_framing_tells_a_part_from_its_two_halves(parts, cut):
    halves = [parts[0][:cut], parts[0][cut:], *parts[1:]]
    assert framed("d", *parts) != framed("d", *halves)


FIELDS = {
    "request_id": st.text(max_size=6),
    "project": st.text(max_size=6),
    "kind": st.sampled_from([kind.value for kind in Kind]),
    "generation": st.integers(0, 12),
    "no": st.integers(0, 12),
    "parent": st.none() | st.integers(0, 12),
    "first": st.integers(0, 12),
    "places": st.none() | st.sampled_from(["", "[1,2]", "None", "-"]),
    "ids": st.sampled_from(["[]", '["a"]', '["a","b"]', "-"]),
}


@given(one=st.fixed_dictionaries(FIELDS), other=st.fixed_dictionaries(FIELDS))
def test_two_chunks_have_one_mac_only_if_they_are_the_same(one, other):
    macs = Macs(KEYS)
    equal = macs.chunk(ChunkFields(**one)) == macs.chunk(ChunkFields(**other))
    assert equal is (one == other)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(value=PLAIN)
def test_canonical_json_is_json_of_the_value_and_the_same_for_any_order(value):
    body = canonical(value)
    assert json.loads(body) == value
    assert canonical(json.loads(body)) == body


@given(value=st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), PLAIN, max_size=5))
def test_any_languages_sorted_json_gives_the_same_bytes(value):
    def ascii_keys(part):
        if isinstance(part, dict):
            return all(key.isascii() and ascii_keys(item) for key, item in part.items())
        return not isinstance(part, list) or all(map(ascii_keys, part))

    if ascii_keys(value):
        plain = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert canonical(value) == plain.encode()


@pytest.mark.parametrize(
    "value", [1.0, [0.5], {"a": {"b": 1.5}}, 2**53, -(2**53), "\ud800", {1: 2}]
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011 - the class is the promise
        canonical(value)


# -- ids ------------------------------------------------------------------------------------------


@given(text=st.text(max_size=300))
def test_an_id_is_given_back_unchanged_or_refused_without_being_quoted(text):
    try:
        assert check_memory_id(text, where="Id 1") == text
    except RequestError as error:
        said = str(error)
        odd = not text.strip() or len(text.encode("utf-8", "replace")) > MAX_ID_BYTES
        control = any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
        noncharacter = any(ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF for c in text)
        surrogate = any(0xD800 <= ord(c) < 0xE000 for c in text)
        assert odd or control or noncharacter or surrogate
        assert len(text) < 5 or text not in said
    else:
        assert 1 <= len(text.encode()) <= MAX_ID_BYTES


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("a", True),
        ("a" * 256, True),
        ("a" * 257, False),
        ("é" * 128, True),
        ("é" * 128 + "a", False),
        ("", False),
        (" ", False),
        ("\u3000", False),
        (" a", True),
        ("a\n", False),
        ("a\x00", False),
        ("a\x7f", False),
        ("a\x85", False),
        ("\u200b", True),
        ("\u202ea", True),
        ("\U0001f9e8", True),
        ("\ud83e", False),
        ("a\ufffe", False),
        ("../x", True),
        ("'; DROP TABLE request; --", True),
        (None, False),
        (7, False),
        (b"a", False),
    ],
)
def test_what_a_memory_id_may_be(text, taken):
    if taken:
        assert check_memory_id(text, where="Id 1") == text
        return
    with pytest.raises(RequestError, match="Id 1"):
        check_memory_id(text, where="Id 1")


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f9e8"])
def test_a_user_id_has_at_most_a_hundred_characters(letter):
    assert check_subject(letter * 100, where="The user id") == letter * 100
    with pytest.raises(RequestError, match=r"101 characters.*100.*40010"):
        check_subject(letter * 101, where="The user id")


# -- dates ----------------------------------------------------------------------------------------

NOON = time(12, tzinfo=UTC)


@pytest.mark.fault("F83")
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((2026, 1, 31), (2026, 2, 28)),
        ((2028, 1, 31), (2028, 2, 29)),
        ((2026, 12, 15), (2027, 1, 15)),
        ((2026, 11, 30), (2026, 12, 30)),
        ((2026, 3, 31), (2026, 4, 30)),
        ((2027, 1, 29), (2027, 2, 28)),
        ((2028, 1, 29), (2028, 2, 29)),
        ((2027, 2, 28), (2027, 3, 28)),  # not the last day for having been the last day
        ((2028, 2, 29), (2028, 3, 29)),
        ((2026, 12, 31), (2027, 1, 31)),
        ((2037, 12, 31), (2038, 1, 31)),  # 2^31 seconds end on 19 January 2038
        ((2038, 1, 19), (2038, 2, 19)),
        ((2099, 12, 31), (2100, 1, 31)),
        ((2100, 1, 31), (2100, 2, 28)),  # no leap year
        ((2400, 1, 31), (2400, 2, 29)),
    ],
)
def test_a_month_is_a_calendar_month(start, end):
    assert month_after(datetime.combine(date(*start), NOON)) == datetime.combine(date(*end), NOON)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.fault("F83")
@pytest.mark.parametrize(
    ("asked", "due"),
    [
        # Same time of day for the person who asked, whichever offset holds by then.
        ("2026-03-10T12:00+01:00", "2026-04-10T12:00+02:00"),
        ("2026-10-10T12:00+02:00", "2026-11-10T12:00+01:00"),
        # 02:30 does not exist on that day: half an hour past three then.
        ("2027-02-28T02:30+01:00", "2027-03-28T03:30+02:00"),
        # 02:30 comes twice: the first one.
        ("2026-09-25T02:30+02:00", "2026-10-25T02:30+02:00"),
        # Still the 30th in UTC; the month is the person's.
        ("2026-01-31T00:30+01:00", "2026-02-28T00:30+01:00"),
    ],
)
def test_a_month_is_that_of_the_persons_own_calendar(asked, due):
    moment = datetime.fromisoformat(asked).astimezone(BERLIN)
    assert to_wall(month_after(moment)) == to_wall(datetime.fromisoformat(due))


@pytest.mark.fault("F83")
@given(moment=st.datetimes(max_value=datetime(9999, 11, 30), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis wants naive bounds
def test_a_month_is_never_longer_than_31_days_and_never_shorter_than_28(moment):
    later = month_after(moment)
    assert timedelta(days=28) <= later - moment <= timedelta(days=31)
    assert (later.year * 12 + later.month) - (moment.year * 12 + moment.month) == 1


@pytest.mark.fault("F83")
def test_only_erasures_have_a_due_date_by_themselves():
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert default_due(Lane.ERASURE, now) == datetime(2026, 12, 22, tzinfo=UTC)
    assert default_due(Lane.BULK, now) is None


@pytest.mark.parametrize(("days", "urgent"), [(-5, True), (0, True), (3, True), (3.01, False)])
def test_what_is_due_within_three_days_goes_by_its_day(days, urgent):
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    due = now + timedelta(days=days)
    expected = (due.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days if urgent else NOT_URGENT
    assert urgency_of(due, now) == expected


@given(moment=st.datetimes(timezones=st.just(UTC)))
def test_a_moment_survives_the_ledgers_form_to_the_microsecond(moment):
    assert from_wall(to_wall(moment)) == moment


# -- the draw, policies, folding ------------------------------------------------------------------


@given(population=st.integers(0, 3_000), size=st.integers(0, 60), generation=st.integers(1, 3))
def test_the_draw_can_be_repeated_from_its_description(population, size, generation):
    drawn = draw(request_id="r-1", generation=generation, population=population, size=size)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == min(size, population)
    assert all(0 <= place < population for place in drawn)
    if size >= population:
        return
    again: list[int] = []
    number = 0
    while len(again) < size:
        line = f"expunge-draw/v1\nr-1\n{generation}\n{number}\n".encode()
        place = int(hashlib.sha256(line).hexdigest(), 16) % population
        again += [] if place in again else [place]
        number += 1
    assert drawn == sorted(again)


@pytest.mark.parametrize("text", ["full", "none", "sample:1", "sample:1000", "sample:007"])
def test_a_policy_that_is_known_is_taken(text):
    policy = parse_verify(text)
    assert (policy.full, policy.none) == (text == "full", text == "none")
    assert policy.sample is None or 1 <= policy.sample <= MAX_SAMPLE


@pytest.mark.parametrize(
    "text", ["", "Full", "sample", "sample:", "sample:0", "sample:1001", "sample:-1", "sample:1 "]
)
def test_a_policy_that_is_not_known_is_refused(text):
    with pytest.raises(RequestError, match=r"sample:N"):
        parse_verify(text)


def test_purges_and_named_users_are_read_back_in_full():
    assert default_verify(Kind.USER, subject_named=True) == "full"
    assert default_verify(Kind.MEMORIES, subject_named=True) == "full"
    assert default_verify(Kind.MEMORIES, subject_named=False) == "sample:50"


@given(items=st.lists(st.integers(0, 30), max_size=200), window=st.integers(1, 40))
def test_folding_is_exact_within_the_window(items, window):
    folder, fresh = Folder(window), 0
    last: dict[int, int] = {}
    for item in items:
        new = folder.is_new(str(item))
        if item not in last:
            assert new
        elif fresh - last[item] < window:
            assert not new
        if new:
            fresh += 1
            last[item] = fresh


def test_states_that_may_follow_are_a_closed_list():
    assert set(CHUNK_MOVES) == set(ChunkState)
    assert set(REQUEST_MOVES) == set(RequestState)
    assert all(moves <= set(ChunkState) for moves in CHUNK_MOVES.values())
