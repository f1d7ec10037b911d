"""Finds settings that were meant but misspelt, since those would silently be ignored.

Orchestrators set names of their own (`EXPUNGE_PORT_6379_TCP` in Kubernetes, say), so an unknown
name is an error only when it is nearly one of ours.
"""

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["distance", "suggest"]

# Names that people and other programs use for the same thing. An error only while ours is not set.
SYNONYMS: Final = {
    "MEMOS_KEY": "MEMOS_API_KEY",
    "MEMOS_TOKEN": "MEMOS_API_KEY",
    "MEMOS_API_TOKEN": "MEMOS_API_KEY",
    "MEMOS_URL": "MEMOS_BASE_URL",
    "MEMOS_API_URL": "MEMOS_BASE_URL",
    "MEMOS_API_BASE": "MEMOS_BASE_URL",
    "MEMOS_API_BASE_URL": "MEMOS_BASE_URL",
    "EXPUNGE_DATABASE_URL": "EXPUNGE_LEDGER_URL",
    "EXPUNGE_BROKER_URL": "EXPUNGE_REDIS_URL",
    "EXPUNGE_QPS": "EXPUNGE_RATE_PER_SECOND",
}

_UNIT: Final = re.compile(
    r"(_PER)?_(S|SEC|SECS|SECOND|SECONDS|MS|MIN|MINS|MINUTE|MINUTES|HOUR|HOURS|DAY|DAYS)\Z"
)
_LONG: Final = 8


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Give the known name that *name* was probably meant to be, or None.

    Alike means: the same but for case, `-` and `_`; the same but for the unit at the end
    (`EXPUNGE_LEASE`, `EXPUNGE_LEASE_MINUTES`); or at most two slips of the keyboard (one in names
    whose own part is shorter than eight letters).

    Args:
        name: A name that is not known.
        known: All known names in capitals, each beginning with `EXPUNGE_` or `MEMOS_`.
    """
    ours = list(known)
    plain = _plain(name)
    for candidate in ours:
        if plain == _plain(candidate):
            return candidate
    upper = name.upper().replace("-", "_")
    for candidate in ours:
        if _UNIT.sub("", upper) == _UNIT.sub("", candidate):
            return candidate
    best: tuple[int, str] | None = None
    for candidate in ours:
        own_part = candidate.partition("_")[2]
        slips = distance(upper, candidate, most=2 if len(own_part) >= _LONG else 1)
        if slips is not None and (best is None or slips < best[0]):
            best = (slips, candidate)
    return best[1] if best else None


def distance(left: str, right: str, *, most: int) -> int | None:
    """Count the slips (letter added, missing, wrong, or two swapped) between two words.

    Returns:
        0 to *most*, or None when there are more.
    """
    if abs(len(left) - len(right)) > most:
        return None
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, mark in enumerate(left, start=1):
        before, above, row = row, before, [i]
        for j, other in enumerate(right, start=1):
            slips = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (mark != other))
            if i > 1 and j > 1 and mark == right[j - 2] and left[i - 2] == other:
                slips = min(slips, above[j - 2] + 1)
            row.append(slips)
        if min(*row, *before) > most:
            return None  # and no further letter makes it less
    return row[-1] if row[-1] <= most else None


def _plain(name: str) -> str:
    return "".join(mark for mark in name.upper() if mark.isalnum())
