"""When a memory was made, in whichever of its forms MemOS writes a time."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api.times import parse_time_us

MOMENT = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)
MOMENT_US = 1_800_000_000_000_000


@pytest.mark.parametrize(
    "said",
    [
        "2027-01-15T08:00:00Z",
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T08:00:00+00:00",
        "2027-01-15T16:00:00+08:00",
        "2027-01-15T03:00:00-05:00",
        "2027-01-15T08:00:00",
        "2027-01-15 08:00:00",
        " 2027-01-15T08:00:00Z\n",
        "2027-01-15T08:00",
        "20270115T080000Z",
        1_800_000_000,
        1_800_000_000.0,
        1_800_000_000_000,
        1_800_000_000_000.0,
        1_800_000_000_000_000,
        "1800000000",
        "1800000000000",
        "1800000000000000",
        " 1800000000 ",
    ],
)
def test_every_form_says_the_same_moment(said):
    assert parse_time_us(said) == MOMENT_US


@pytest.mark.parametrize(
    ("said", "us"),
    [
        ("2027-01-15", 1_799_971_200_000_000),  # a bare date is its midnight, UTC
        ("2027-01-15T08:00:00.123456Z", MOMENT_US + 123_456),
        ("2027-01-15T08:00:00.123Z", MOMENT_US + 123_000),
        (1_800_000_000.5, MOMENT_US + 500_000),
        (1_800_000_000_123, MOMENT_US + 123_000),
        # The ends of each size: seconds, milliseconds and microseconds since 1970.
        (10**9, 10**15),
        (10**12 - 1, (10**12 - 1) * 10**6),
        (10**12, 10**15),
        (10**15 - 1, (10**15 - 1) * 10**3),
        (10**15, 10**15),
        (10**18 - 1, 10**18 - 1),
    ],
)
def test_parts_of_seconds_and_the_ends_of_each_size(said, us):
    assert parse_time_us(said) == us


@pytest.mark.parametrize(
    "said",
    [
        None,
        True,
        False,
        [],
        {},
        b"1800000000",
        MOMENT,
        "",
        " ",
        "soon",
        "Z",
        "T",
        "2027",
        "2027-13-01",
        "2027-02-30T00:00:00Z",
        "2027-01-15T25:00:00Z",
        "2027-01-15T08:00:00Zulu",
        "+1800000000",
        "-1800000000",
        "1800000000.5",
        "1.8e9",
        "0x6b49d200",
        "1_800_000_000",
        "١٨٠٠٠٠٠٠٠٠",
        "²",
        "0",
        "9" * 30,
        "1" * 10_000,
        "\ud800",
        0,
        1,
        -1,
        10**9 - 1,
        10**18,
        10**400,
        -(10**400),
        0.0,
        1e300,
        math.nan,
        math.inf,
        -math.inf,
    ],
)
def test_what_says_no_moment_is_none(said):
    assert parse_time_us(said) is None


@pytest.mark.parametrize(
    "said",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01", "9999-12-31"],
)
def test_the_first_and_the_last_moment_do_not_raise(said):
    moment = parse_time_us(said)
    assert moment is None or moment < 0 or moment > 10**17


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(
    min_value=datetime(2002, 1, 1),  # noqa: DTZ001 - hypothesis wants them naive
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - as above
    timezones=OFFSETS,
)


def exact_us(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(MOMENTS, st.sampled_from(["T", " "]))
def test_any_iso_time_is_read_to_the_microsecond(moment, between):
    said = parse_time_us(moment.isoformat(between))
    assert said is not None
    assert abs(said - exact_us(moment)) <= 1


@given(MOMENTS)
def test_a_time_means_the_same_in_seconds_milliseconds_and_microseconds(moment):
    us = exact_us(moment)
    assert parse_time_us(us) == us
    assert parse_time_us(us // 1_000) == us // 1_000 * 1_000
    assert parse_time_us(us // 1_000_000) == us // 1_000_000 * 1_000_000
    assert parse_time_us(str(us // 1_000)) == us // 1_000 * 1_000


@given(st.integers() | st.floats() | st.text() | st.binary() | st.none() | st.booleans())
def test_nothing_raises_and_a_number_is_never_before_2001(said):
    moment = parse_time_us(said)
    assert moment is None or isinstance(moment, int)
    if moment is not None and not isinstance(said, str):
        assert 10**15 <= moment < 10**18


@given(st.text(alphabet="0123456789-+:.TZW ", max_size=40))
def test_nothing_that_looks_like_a_time_raises(said):
    assert isinstance(parse_time_us(said), int | None)
