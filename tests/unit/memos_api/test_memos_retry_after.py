"""How long a server asks to wait, in all forms that the standard allows."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_api.retry_after import parse_http_date, retry_after_s

NOW = datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC)


@pytest.mark.fault("F58")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("999999999999999999", 3600.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 37.0),
        ("Sun Nov  6 08:49:37 1994", 37.0),
        ("Sun Nov 06 08:49:37 1994", 37.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", 3600.0),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 59.0),
    ],
)
def test_seconds_and_the_three_dates_are_read(value, seconds):
    assert retry_after_s(value, date=None, now=NOW) == seconds


@pytest.mark.fault("F59")
@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "-1",
        "+5",
        "1.5",
        "1e3",
        "5, 10",
        "٣",  # a digit, but no ASCII one
        "9" * 19,
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 0000 08:49:37 GMT",
    ],
)
def test_garbage_is_no_wish(value):
    assert retry_after_s(value, date=None, now=NOW) is None


@pytest.mark.fault("F58")
def test_a_date_is_measured_by_the_servers_own_clock():
    """Our clock is an hour behind the server's; the wait is 30 seconds all the same."""
    server_now = NOW + timedelta(hours=1)
    until = format_datetime(server_now + timedelta(seconds=30), usegmt=True)
    date = format_datetime(server_now, usegmt=True)
    assert retry_after_s(until, date=date, now=NOW) == 30.0
    assert retry_after_s(until, date="garbage", now=NOW) == 3600.0


@pytest.mark.fault("F58")
def test_a_two_digit_year_is_never_far_in_the_future():
    read = parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", now=datetime(2026, 1, 1, tzinfo=UTC))
    assert read is not None
    assert read.year == 1994


@pytest.mark.fault("F58")
@given(st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis wants naive bounds
def test_each_date_is_read_back_in_each_form(moment):
    moment = moment.replace(microsecond=0)
    forms = [
        format_datetime(moment, usegmt=True),
        f"{moment:%a} {moment:%b} {moment.day:2d} {moment:%H:%M:%S} {moment.year}",
        f"{moment:%A}, {moment:%d-%b-%y %H:%M:%S} GMT",
    ]
    for form in forms:
        assert parse_http_date(form, now=moment) == moment


@pytest.mark.fault("F59")
@given(st.text(max_size=60), st.none() | st.text(max_size=60))
def test_no_text_raises_or_leaves_the_bounds(value, date):
    seconds = retry_after_s(value, date=date, now=NOW)
    assert seconds is None or 0 <= seconds <= 3600
