"""What is left: absence is believed only of complete, well-formed answers.

Source: `POST get/memory` and `GET get/memory/{id}` of the Cloud; `total` there is the largest count
over the categories and the lists may be missing or null.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from memos_api.codes import Outcome

if TYPE_CHECKING:
    from memos_api.outcomes import Answer

__all__ = ["CATEGORIES", "Listing", "Sight", "listing_from", "sight_from"]

CATEGORIES = (
    "memory_detail_list",
    "preference_detail_list",
    "tool_memory_detail_list",
    "skill_detail_list",
    "profile_detail_list",
    "event_detail_list",
)
"""The members of `data` that hold items, one a category."""

_ABSENT_CODES = frozenset({40001, 40307})
_OK = 200
_SERVER_ERRORS = 500


class Sight(StrEnum):
    """What a look at one id showed."""

    ABSENT = "absent"
    PRESENT = "present"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One page of a user's or an agent's memories.

    Attributes:
        memory_ids: Ids on this page, each once, those with status `deleted` left out.
        page: The page asked for, from 1.
        last: No further page holds anything.
        unchecked: Categories the server left out or gave as null. Of these nothing is known: only
            with none unchecked is an empty last page 1 a sign that all is gone.
    """

    memory_ids: tuple[str, ...] = field(repr=False)
    page: int
    last: bool
    unchecked: tuple[str, ...]


def listing_from(document: dict[str, object] | None, *, page: int) -> Listing | None:
    """Read a page; None unless every part of it is as documented.

    Args:
        document: The parsed body of an answer with HTTP 200 and code 0 or 200.
        page: The page asked for; an answer that names another one is not believed.
    """
    data = document.get("data") if document is not None else None
    if not isinstance(data, dict):
        return None
    current, pages = data.get("current"), data.get("pages")
    if _is_int(current) and current != page:
        return None
    unchecked: list[str] = []
    seen: dict[str, None] = {}
    empty = True
    for category in CATEGORIES:
        items = data.get(category)
        if items is None:
            unchecked.append(category)
            continue
        if not isinstance(items, list):
            return None
        empty = empty and not items
        for item in items:
            memory_id = _id_of(item)
            if memory_id is None:
                return None
            if item.get("status") != "deleted":
                seen[memory_id] = None
    if len(unchecked) == len(CATEGORIES):
        return None  # nothing was listed, so nothing was seen to be empty
    counted = isinstance(pages, int) and _is_int(current) and _is_int(pages) and page >= pages
    return Listing(
        memory_ids=tuple(seen), page=page, last=empty or counted, unchecked=tuple(unchecked)
    )


def sight_from(answer: Answer, document: dict[str, object] | None, *, memory_id: str) -> Sight:
    """Tell what the answer to a by-id read says of *memory_id*.

    A memory with status `deleted` is absent (the Cloud may delete softly), an archived one is
    present. Whatever is not well-formed, or speaks of another id, is UNKNOWN.
    """
    status = answer.http_status
    if answer.outcome is Outcome.NOT_FOUND and answer.code in _ABSENT_CODES:
        return Sight.ABSENT if status is not None and status < _SERVER_ERRORS else Sight.UNKNOWN
    if answer.outcome is not Outcome.ACKNOWLEDGED or status != _OK or document is None:
        return Sight.UNKNOWN
    item = document.get("data")
    if not isinstance(item, dict) or _id_of(item) != memory_id:
        return Sight.UNKNOWN
    state = item.get("status")
    if state is not None and not isinstance(state, str):
        return Sight.UNKNOWN
    return Sight.ABSENT if state == "deleted" else Sight.PRESENT


def _id_of(item: object) -> str | None:
    if not isinstance(item, dict):
        return None
    memory_id = item.get("id")
    return memory_id if isinstance(memory_id, str) and memory_id else None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
