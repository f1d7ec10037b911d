"""Times as MemOS writes them: ISO 8601 in one place, epoch seconds or milliseconds in another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

__all__ = ["parse_time_us"]

_US: Final = 1_000_000
# The year 2001 in milliseconds, and the year 33658 in seconds: nothing lies on both sides.
_LEAST_MS: Final = 10**12
_LEAST_US: Final = 10**15
_MOST_US: Final = 10**18
# The year 2001 in seconds; what is smaller is no moment at which a memory was made.
_LEAST_S: Final = 10**9


def parse_time_us(value: object) -> int | None:
    """Give a moment in microseconds since 1970 (UTC), None when *value* does not say one.

    Numbers, and texts of digits, are seconds, milliseconds or microseconds, told apart by size.
    Other texts are ISO 8601; one without an offset is taken for UTC.

    Source: the Cloud's schema says ISO 8601 strings, its examples show epoch milliseconds.
    """
    if isinstance(value, str):
        text = value.strip()
        digits = text.isascii() and text.isdigit()
        return _from_number(int(text[:20])) if digits else _from_iso(text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    return None


def _from_iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * _US)
    except (OverflowError, ValueError):
        return None


def _from_number(number: float) -> int | None:
    if not _LEAST_S <= number < _MOST_US:  # also refuses NaN
        return None
    if number >= _LEAST_US:
        return int(number)
    return int(number * 1_000) if number >= _LEAST_MS else int(number * _US)
