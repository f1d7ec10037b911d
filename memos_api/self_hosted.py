"""The dialect of a MemOS of one's own: `POST /product/delete_memory` and `/product/get_memory`.

Source: MemOS's own code and a live run with PostgreSQL. There the answer is HTTP 200 and code 200
whatever happened, the truth is in `data.status` at best, reads by id look into one cube only and
say "not found" while the database is down, and lists ignore page, user and filter. So the one
honest look is the list of a whole cube, every item of which is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from memos_api.calls import MAX_PAGE_SIZE, Call, delete_call, encode
from memos_api.cloud import malformed, read_answer
from memos_api.dialects import SEARCH, Understood
from memos_api.orders import AgentPurge, DeleteOrder, MemoryBatch, Owner, UserPurge
from memos_api.outcomes import Answer, Outcome, judge
from memos_api.readback import Item, Listing, Sight, id_of
from memos_api.times import parse_time_us

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SelfHosted"]

_OK = 200
_KINDS = ("text_mem", "pref_mem", "tool_mem", "skill_mem")


@dataclass(frozen=True, kw_only=True)
class SelfHosted:
    """One server.

    Attributes:
        cubes: The memory cubes of the project, at least one: all of them are walked.
        searches: Whether a search is part of each look: vectors may stay behind.
        missing_is_empty: Whether a kind that is left out of a list is taken for empty.
    """

    cubes: tuple[str, ...]
    searches: bool = True
    missing_is_empty: bool = False

    def __post_init__(self) -> None:
        """Refuse a server without cubes, of which nothing could ever be seen to be gone."""
        if not self.cubes:
            raise ValueError("A self-hosted MemOS needs the names of its cubes.")

    @property
    def most_body_bytes(self) -> int:
        """Give 32 MB: one answer may hold a whole cube."""
        return 32_000_000

    def delete(self, order: DeleteOrder) -> Call:
        """Encode `POST /product/delete_memory`.

        There are no agents in this dialect; such a call gets no path, and is answered as refused
        without being sent.
        """
        delete_call(order)  # checks it in the same words
        members: dict[str, object] = {"writable_cube_ids": list(self.cubes)}
        if isinstance(order, MemoryBatch):
            members["memory_ids"] = list(order.memory_ids)
        elif isinstance(order, UserPurge):
            members["user_id"] = order.user_id
        path = "" if isinstance(order, AgentPurge) else "/product/delete_memory"
        return Call(kind="delete", method="POST", path=path, body=encode(members))

    def legs(self, owner: Owner | None) -> tuple[str, ...]:
        """Each cube is a list of its own."""
        finds = self.searches and owner is not None and owner[0] == "user"
        return (*self.cubes, SEARCH) if finds else self.cubes

    def alone(self, category: str) -> str | None:
        """No list shows one category only."""
        del category
        return None

    def look(self, owner: Owner | None, *, leg: str, page: int) -> Call:
        """Encode `POST /product/get_memory` of one cube, or `POST /product/search`.

        Raises:
            ValueError: A search needs a user.
        """
        # There are no agents here, and a user of an agent's name is somebody else.
        user = owner[1] if owner is not None and owner[0] == "user" else None
        if leg == SEARCH:
            if user is None:
                raise ValueError("A search needs a user.")
            members: dict[str, object] = {
                "query": "memory",
                "user_id": user,
                "readable_cube_ids": list(self.cubes),
                "top_k": MAX_PAGE_SIZE,
                "relativity": 0,
            }
            return Call(
                kind="search",
                method="POST",
                path="/product/search",
                body=encode(members),
                owner=owner,
                views=_KINDS,
            )
        members = {
            "mem_cube_id": leg,
            "page": page,
            "page_size": MAX_PAGE_SIZE,
            "include_preference": True,
            "include_tool_memory": True,
            "include_skill_memory": True,
        }
        if user is not None:
            members["user_id"] = user
        return Call(
            kind="list",
            method="POST",
            path="/product/get_memory",
            body=encode(members),
            page=page,
            owner=owner,
            views=_KINDS,
        )

    def read(self, memory_id: str) -> Call:
        """Encode `GET /product/get_memory/{id}`, whose "not found" proves nothing."""
        path = f"/product/get_memory/{quote(memory_id, safe='')}"
        if memory_id in {".", ".."}:
            path = ""
        return Call(kind="read", method="GET", path=path, memory_id=memory_id)

    def understand(
        self, call: Call, *, http_status: int, headers: Mapping[str, str], body: bytes
    ) -> Understood:
        """Read the answer to *call*."""
        judged = judge(http_status=http_status, headers=headers, body=body, needs_success=False)
        answer, document = judged.answer, judged.document
        well = answer.outcome is Outcome.ACKNOWLEDGED and http_status == _OK
        if call.kind == "delete":
            return Understood(answer=_by_status(answer, document) if well else answer)
        if call.kind == "read":
            sight = Sight.UNKNOWN
            if well and document is not None and id_of(document.get("data")) == call.memory_id:
                sight = Sight.PRESENT
            return Understood(answer=read_answer(answer, sight), sight=sight)
        listing = _listing(document, call) if well else None
        if listing is None and answer.outcome is Outcome.ACKNOWLEDGED:
            answer = malformed(answer)
        return Understood(answer=answer, listing=listing)


def _by_status(answer: Answer, document: dict[str, object] | None) -> Answer:
    """Judge a deletion by `data.status`; *failure* is said also when everything was deleted."""
    data = document.get("data") if document is not None else None
    status = data.get("status") if isinstance(data, dict) else None
    if status == "success":
        return answer
    reason = "status_failure" if status == "failure" else "status_missing"
    return replace(answer, outcome=Outcome.UNKNOWN, reason=reason)


def _listing(document: dict[str, object] | None, call: Call) -> Listing | None:
    """Read a page of a cube; None unless every part of it is as in MemOS's code."""
    data = document.get("data") if document is not None else None
    if not isinstance(data, dict):
        return None
    unchecked: list[str] = []
    ids: set[str] = set()
    items: dict[str, Item] = {}
    for kind in call.views:
        shelves = data.get(kind)
        if shelves is None:
            unchecked.append(kind)
            continue
        if not isinstance(shelves, list):
            return None
        for shelf in shelves:
            memories = shelf.get("memories") if isinstance(shelf, dict) else None
            if not isinstance(memories, list):
                return None
            for memory in memories:
                memory_id = id_of(memory)
                if memory_id is None:
                    return None
                ids.add(memory_id)
                item = _item(memory, memory_id, call.owner)
                if item is not None:
                    items[memory_id] = item.both(items.get(memory_id))
    return Listing(items=tuple(items.values()), ids=frozenset(ids), unchecked=tuple(unchecked))


def _item(memory: dict[str, object], memory_id: str, owner: Owner | None) -> Item | None:
    metadata = memory.get("metadata")
    said = metadata if isinstance(metadata, dict) else {}
    if said.get("status") == "deleted":
        return None
    user = said.get("user_id")
    named = isinstance(user, str) and user
    return Item(
        id=memory_id,
        owned=user == owner[1] if named and owner is not None and owner[0] == "user" else None,
        created_us=parse_time_us(said.get("created_at")),
    )
