"""How surely a request is done, in a sentence that needs no glossary. Never a name in it."""

import json
from typing import Any

from sqlalchemy import Row

from ledger.states import Certainty, Kind

__all__ = ["in_words"]


def in_words(row: Row[Any]) -> str | None:
    """Say what was seen of a request that has ended; None before, or when nothing was carried out.

    Args:
        row: Of the request, all columns.
    """
    if row.certainty is None:
        return None
    said = [_PURGE[row.certainty](row) if row.kind != Kind.MEMORIES else _of_ids(row)]
    if row.not_checked:
        names = ", ".join(name.replace("_", " ") for name in json.loads(row.not_checked))
        said.append(f"Not checked, for MemOS did not show it: {names}.")
    if row.later:
        # With `include_later` nothing is later than the order.
        said.append(f"{row.later} appeared after the request was handed in and were left.")
    if row.second_look in _SECOND:
        said.append(_SECOND[row.second_look])
    return " ".join(said)


def _of_ids(row: Row[Any]) -> str:
    n = row.unique_ids
    gone = row.verified_absent + row.already_absent
    match row.certainty:
        case Certainty.ACKNOWLEDGED:
            return f"MemOS said that it deleted {row.acknowledged} of {n}; nobody looked."
        case Certainty.VERIFIED:
            return f"{_all(gone, n)} looked for after the deletion, and none was there."
        case Certainty.SAMPLED:
            drawn = row.drawn or 0
            rest = "" if drawn >= n else " The others are gone by MemOS's word alone."
            return f"{drawn} of {n} read back, all absent.{rest}"
        case Certainty.STILL_PRESENT:
            return f"{row.still_present} of {n} were seen to be still there."
        case _:
            open_ = row.unknown + row.refused
            return (
                f"{open_} of {n} could not be seen to be gone: MemOS refused {row.refused}, and of "
                f"{row.unknown} it gave no answer that tells."
            )


def _all(count: int, of: int) -> str:
    return f"All {of} were" if count == of else f"{count} of {of} were"


_PURGE = {
    Certainty.ACKNOWLEDGED: lambda row: (
        f"MemOS said that it deleted everything of this {row.kind}; nobody looked."
    ),
    Certainty.VERIFIED: lambda row: (
        f"Every list of this {row.kind} was read to its end after the deletion, and showed "
        "nothing that was to go."
    ),
    # A purge is never sampled; should a row say so, that is all there is to say.
    Certainty.SAMPLED: lambda row: f"Some lists of this {row.kind} were read, and were empty.",
    Certainty.STILL_PRESENT: lambda row: (
        f"Memories of this {row.kind} were seen to be still there."
    ),
    Certainty.UNVERIFIABLE: lambda row: (
        f"Whether anything of this {row.kind} is left could not be seen."
    ),
}
_SECOND = {
    "absent": "The second look, long after, found nothing.",
    "found": "The second look, long after, found memories again: see the request that follows it.",
    "unknown": "The second look, long after, could not be made.",
}
