"""What is left: absence is believed only of complete, well-formed answers.

Source: `POST get/memory`, `POST search/memory` and `GET get/memory/{id}` of the Cloud. `total` and
`pages` there are not trusted, and the lists may be missing or null.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from memos_api.codes import Outcome
from memos_api.times import parse_time_us

if TYPE_CHECKING:
    from memos_api.orders import Owner
    from memos_api.outcomes import Answer

__all__ = [
    "CATEGORIES",
    "Item",
    "Listing",
    "Sight",
    "created_us",
    "id_of",
    "listing_from",
    "owned_by",
    "sight_from",
]

CATEGORIES = {
    "detail_factual": "memory_detail_list",
    "preference": "preference_detail_list",
    "tool_memory": "tool_memory_detail_list",
    "skill": "skill_detail_list",
    "profile": "profile_detail_list",
    "event": "event_detail_list",
}
"""The kinds of memories that a list is asked for, and the member of `data` that holds each."""

_ABSENT_CODES = frozenset({40001, 40307})
_OK = 200
_SERVER_ERRORS = 500
_OWNER_FIELDS = {"user": "user_id", "agent": "agent_id"}


class Sight(StrEnum):
    """What a look at one id showed."""

    ABSENT = "absent"
    PRESENT = "present"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A memory that is still there.

    Attributes:
        id: Its id.
        owned: Whether the server says that it is of whoever was asked about; None when it does not
            say whose it is.
        created_us: When it was made, microseconds since 1970; None when that cannot be read.
    """

    id: str = field(repr=False)
    owned: bool | None
    created_us: int | None

    def both(self, other: Item | None) -> Item:
        """Give what is to be feared of an id that a list shows twice, and differently.

        It is of whoever was asked about if either says so, and it was there before if either does.
        """
        if other is None:
            return self
        said = (self.owned, other.owned)
        made = (self.created_us, other.created_us)
        return Item(
            id=self.id,
            owned=True if True in said else None if None in said else False,
            created_us=None if None in made else min(one for one in made if one is not None),
        )


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One page of a user's or an agent's memories.

    Attributes:
        items: What is there, each id once; those with status `deleted` are left out.
        ids: All ids on the page, deleted ones too: a page without a new one ends the walk.
        unchecked: Categories the server left out or gave as null. Of these nothing is known.
        full: A category has as many items as were asked for, so that there may be more.
    """

    items: tuple[Item, ...] = field(repr=False)
    ids: frozenset[str] = field(repr=False)
    unchecked: tuple[str, ...] = ()
    full: bool = False

    @property
    def memory_ids(self) -> tuple[str, ...]:
        """Ids of what is still there."""
        return tuple(item.id for item in self.items)


def listing_from(
    document: dict[str, object] | None,
    *,
    owner: Owner,
    page: int,
    views: tuple[str, ...] = tuple(CATEGORIES),
    size: int | None = None,
) -> Listing | None:
    """Read a page; None unless every part of it is as documented.

    Args:
        document: The parsed body of an answer with HTTP 200 and code 0 or 200.
        owner: Whose memories were asked for.
        page: The page asked for; an answer that names another one is not believed.
        views: The categories asked for.
        size: How many items of each.
    """
    data = document.get("data") if document is not None else None
    if not isinstance(data, dict):
        return None
    if not any(name in data for name in (*CATEGORIES.values(), "current", "total")):
        return None  # it is no list at all
    current = data.get("current")
    if _is_int(current) and current != page:
        return None
    unchecked: list[str] = []
    ids: set[str] = set()
    items: dict[str, Item] = {}
    full = False
    for view in views:
        listed = data.get(CATEGORIES[view])
        if listed is None:
            unchecked.append(view)
            continue
        if not isinstance(listed, list):
            return None
        full = full or len(listed) == size
        for item in listed:
            memory_id = id_of(item)
            if memory_id is None:
                return None
            ids.add(memory_id)
            if item.get("status") != "deleted":
                found = Item(
                    id=memory_id,
                    owned=owned_by(item, owner),
                    created_us=created_us(item),
                )
                items[memory_id] = found.both(items.get(memory_id))
    return Listing(
        items=tuple(items.values()), ids=frozenset(ids), unchecked=tuple(unchecked), full=full
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
    if not isinstance(item, dict) or id_of(item) != memory_id:
        return Sight.UNKNOWN
    state = item.get("status")
    if state is not None and not isinstance(state, str):
        return Sight.UNKNOWN
    return Sight.ABSENT if state == "deleted" else Sight.PRESENT


def id_of(item: object) -> str | None:
    """Give the id of an item, None when it has none that can be one."""
    memory_id = item.get("id") if isinstance(item, dict) else None
    if not isinstance(memory_id, str) or not memory_id:
        return None
    try:
        # JSON can hold a lone surrogate, and no call that names it could ever be made.
        memory_id.encode()
    except UnicodeEncodeError:
        return None
    return memory_id


def owned_by(item: dict[str, object], owner: Owner) -> bool | None:
    """Say whether the item names *owner* as its owner; None when it names nobody of that kind."""
    kind, name = owner
    said = item.get(_OWNER_FIELDS[kind])
    return said == name if isinstance(said, str) and said else None


def created_us(item: dict[str, object]) -> int | None:
    """Give when an item was made; profiles have another name for it than the others."""
    said = item.get("create_time")
    return parse_time_us(item.get("created_at") if said is None else said)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
