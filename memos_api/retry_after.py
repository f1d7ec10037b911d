"""`Retry-After`: how long a server asks to be left alone.

Source: RFC 9110 10.2.3 (seconds or a date) and 5.6.7 (three date forms, all to be accepted).
`strptime` is not used: its names of days and months follow the process's locale.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["LONGEST_S", "parse_http_date", "retry_after_s"]

LONGEST_S = 3600.0
"""The longest pause taken over from a server; a longer one is looked at again after an hour."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "|".join(_MONTHS)
_DAY = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_LONG_DAY = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_TIME = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
_FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"(?:{_DAY}), (?P<day>\d{{2}}) (?P<month>{_MONTH}) (?P<year>\d{{4}}) {_TIME} GMT",
        rf"(?:{_LONG_DAY}), (?P<day>\d{{2}})-(?P<month>{_MONTH})-(?P<year>\d{{2}}) {_TIME} GMT",
        rf"(?:{_DAY}) (?P<month>{_MONTH}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
_SECONDS = re.compile(r"\d{1,18}", re.ASCII)
_CENTURY = 100
_FAR_FUTURE_YEARS = 50
_LEAP_SECOND = 60


def parse_http_date(text: str, *, now: datetime) -> datetime | None:
    """Read one of the three HTTP-date forms as UTC; None when it is none of them.

    Args:
        text: IMF-fixdate, RFC 850 (two-digit year) or asctime.
        now: Settles the century of a two-digit year: never more than 50 years ahead.
    """
    for form in _FORMS:
        match = form.fullmatch(text.strip())
        if match is None:
            continue
        year = int(match["year"])
        if len(match["year"]) == len("94"):
            year += now.year - now.year % _CENTURY
            if year > now.year + _FAR_FUTURE_YEARS:
                year -= _CENTURY
        try:
            return datetime(
                year,
                _MONTHS.index(match["month"]) + 1,
                int(match["day"]),
                int(match["hour"]),
                int(match["minute"]),
                min(int(match["second"]), _LEAP_SECOND - 1),
                tzinfo=UTC,
            )
        except ValueError:  # 31 February, hour 25
            return None
    return None


def retry_after_s(value: str | None, *, date: str | None, now: datetime) -> float | None:
    """Give the seconds to wait, within [0, LONGEST_S]; None when absent or unreadable.

    Args:
        value: The `Retry-After` header.
        date: The answer's `Date` header. A date in *value* is the server's, so it is measured
            against the server's own clock where it told the time, and ours only otherwise.
        now: Our time, aware.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_S)
    until = parse_http_date(text, now=now)
    if until is None:
        return None
    server_now = parse_http_date(date, now=now) if date is not None else None
    wait_s = (until - (server_now or now)).total_seconds()
    return min(max(wait_s, 0.0), LONGEST_S)
