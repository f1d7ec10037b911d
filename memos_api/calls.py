"""Requests as they leave: encoded once, before the slot, so that a call costs nothing but its way.

Source: the Cloud's `POST delete/memory`, `POST get/memory` and `GET get/memory/{memory_id}`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from memos_api.orders import AgentPurge, DeleteOrder, MemoryBatch, UserPurge, check_id

__all__ = ["MAX_PAGE_SIZE", "Call", "delete_call", "list_call", "read_call"]

MAX_PAGE_SIZE = 50
"""Most items of one category on one page of `get/memory`."""

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
        memory_id: Of a read: the id asked for.
    """

    kind: Literal["delete", "list", "read"]
    method: Literal["GET", "POST"]
    path: str = field(repr=False)
    body: bytes = field(repr=False, default=b"")
    page: int = 1
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
    return Call(kind="delete", method="POST", path="/delete/memory", body=_encode(members))


def list_call(
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    page: int = 1,
    size: int = MAX_PAGE_SIZE,
) -> Call:
    """Encode a look at one page, newest first, of all memories of a user or an agent.

    Args:
        user_id: Whose memories; exactly one of this and *agent_id*.
        agent_id: Which agent's memories.
        page: From 1.
        size: Items of each category, 1 to 50.

    Raises:
        ValueError: None or both of the ids, or page or size out of bounds.
    """
    if (user_id is None) == (agent_id is None):
        raise ValueError("Ask for the memories of a user or of an agent, exactly one of both.")
    if page < 1 or not 1 <= size <= MAX_PAGE_SIZE:
        raise ValueError(f"Pages count from 1 and hold 1 to {MAX_PAGE_SIZE} items a category.")
    member, value = ("user_id", user_id) if user_id is not None else ("agent_id", agent_id)
    check_id(value, "user or agent id")
    body = _encode({member: value, "page": page, "size": size})
    return Call(kind="list", method="POST", path="/get/memory", body=body, page=page)


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


def _encode(members: dict[str, object]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
