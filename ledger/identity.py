"""Ids of requests and events: UUIDs of version 7 (RFC 9562, section 5.7).

They begin with the moment they were made, in milliseconds, and go on at random. Ids that are made
together so stand together in the database's indexes: with wholly random ones each request of a
batch changes pages of its own in seven indexes, and taking in 30,000 of them is half as fast. What
they tell is what `created_at` and an event's `at` say too.
"""

import uuid
from typing import Final

from ledger.clock import wall_us

__all__ = ["made_us", "new_id"]

_RANDOM: Final = (1 << 76) - 1
_VERSION: Final = 7 << 76


def new_id() -> str:
    """Give an id that nobody else has."""
    # The variant's two bits are in the random part, where version 4 has them too.
    number = uuid.uuid4().int & _RANDOM | _VERSION | (wall_us() // 1_000) << 80
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def made_us(made: str) -> int:
    """Give the moment that stands in such an id: microseconds since 1970, to the millisecond.

    Raises:
        ValueError: It is no UUID.
    """
    return (uuid.UUID(made).int >> 80) * 1_000
