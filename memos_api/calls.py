"""Requests to the Cloud as they leave: encoded once, before the slot, so that a call costs nothing.

Source: the Cloud's `POST delete/memory`, `POST get/memory`, `POST search/memory` and
`GET get/memory/{memory_id}`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from memos_api.orders import AgentPurge, DeleteOrder, MemoryBatch, Owner, UserPurge, check_id
from memos_api.readback import CATEGORIES

__all__ = [
    "MAX_PAGE_SIZE",
    "Call",
    "delete_call",
    "encode",
    "list_call",
    "read_call",
    "search_call",
]

MAX_PAGE_SIZE = 50
"""Most items of one category on one page of `get/memory`."""

_MOST_HITS = {
    "memory_limit_number": 25,
    "include_preference": True,
    "preference_limit_number": 25,
    "include_tool_memory": True,
    "tool_memory_limit_number": 25,
}
# Made once: `json.dumps` makes one for each call that is not of its usual kind.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DOT_SEGMENTS = frozenset({".", ".."})


@dataclass(frozen=True, kw_only=True)
class Call:
    """A prepared request; its repr shows neither ids nor the path that may hold one.

    Attributes:
        kind: What is asked, which decides how the answer is read.
        method: The HTTP method.
        path: Below the base URL, percent-encoded; empty when no path can name the id.
        body: The JSON body as UTF-8; empty for a GET.
        page: Of a list: the page asked for.
        size: Of a list: items of each category asked for; None where pages are not to be trusted.
        owner: Of a list or a search: whose memories were asked for; None for everybody's.
        views: Of a list or a search: the categories asked for.
        memory_id: Of a read: the id asked for.
    """

    kind: Literal["delete", "list", "read", "search"]
    method: Literal["GET", "POST"]
    path: str = field(repr=False)
    body: bytes = field(repr=False, default=b"")
    page: int = 1
    size: int | None = None
    owner: Owner | None = field(repr=False, default=None)
    views: tuple[str, ...] = tuple(CATEGORIES)
    memory_id: str = field(repr=False, default="")


def delete_call(order: DeleteOrder) -> Call:
    """Encode a deletion: a body with exactly one member, and nothing it could be taken for else.

    Raises:
        TypeError: *order* is none of the three kinds.
    """
    # Exact types: a subclass could carry an empty batch past the check at its birth.
    members: dict[str, object]
    if type(order) is MemoryBatch and order.memory_ids:
        members = {"memory_ids": list(order.memory_ids)}
    elif type(order) is UserPurge and order.user_id:
        members = {"user_id": order.user_id}
    elif type(order) is AgentPurge and order.agent_id:
        members = {"agent_id": order.agent_id}
    else:
        raise TypeError(
            "A deletion needs a MemoryBatch, UserPurge or AgentPurge that names something; "
            "nothing was sent.",
        )
    return Call(kind="delete", method="POST", path="/delete/memory", body=encode(members))


def list_call(
    owner: Owner,
    *,
    page: int = 1,
    size: int = MAX_PAGE_SIZE,
    view: str | None = None,
) -> Call:
    """Encode a look at one page, newest first, of the memories of a user or an agent.

    Args:
        owner: Whose memories.
        page: From 1.
        size: Items of each category, 1 to 50.
        view: Only this category (a key of `CATEGORIES`); None asks for all.

    Raises:
        ValueError: The id is no id, or page or size is out of bounds.
    """
    if page < 1 or not 1 <= size <= MAX_PAGE_SIZE:
        raise ValueError(f"Pages count from 1 and hold 1 to {MAX_PAGE_SIZE} items a category.")
    members: dict[str, object] = {**_owner_member(owner), "page": page, "size": size}
    if view is not None:
        members["include_memory_view"] = [view]
    return Call(
        kind="list",
        method="POST",
        path="/get/memory",
        body=encode(members),
        page=page,
        size=size,
        owner=owner,
        views=tuple(CATEGORIES) if view is None else (view,),
    )


def search_call(owner: Owner) -> Call:
    """Encode a search for whatever is left of a user or an agent: at most 25 memories.

    The threshold is off, so that any memory is a hit. What is found is there; what is not found
    proves nothing.

    Raises:
        ValueError: The id is no id.
    """
    members = {**_owner_member(owner), "query": "memory", "relativity": 0, **_MOST_HITS}
    return Call(
        kind="search", method="POST", path="/search/memory", body=encode(members), owner=owner
    )


def _owner_member(owner: Owner) -> dict[str, object]:
    kind, name = owner
    check_id(name, f"{kind} id")
    return {f"{kind}_id": name}


def read_call(memory_id: str) -> Call:
    """Encode a look at one memory.

    The ids `.` and `..` get no path: as a path segment they mean another address to every peer,
    percent-encoded or not (RFC 3986 6.2.2), so such a call is answered without being sent.

    Raises:
        ValueError: The id is not a non-empty UTF-8 string.
    """
    check_id(memory_id, "memory id")
    path = "" if memory_id in _DOT_SEGMENTS else f"/get/memory/{quote(memory_id, safe='')}"
    return Call(kind="read", method="GET", path=path, memory_id=memory_id)


def encode(members: dict[str, object]) -> bytes:
    """Give *members* as the UTF-8 JSON of a body."""
    return _json(members).encode("utf-8")
