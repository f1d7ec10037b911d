"""The documented contract of the Cloud: what each endpoint takes and answers.

Sources: the Cloud's pages for `delete/memory`, `get/memory` and `search/memory` and its error
codes. What is documented nowhere (ids a call, partly unknown batches, the answer for a deleted
memory) is a setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from memos_api.simulator.state import CATEGORIES, Memory, Owner, Project

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Effect", "Result", "Rules", "Settings", "refusal"]

Effect: TypeAlias = Literal["all", "none", "half", "wider"]
"""Of what is to be deleted: everything, nothing, every second one, all that their owners have."""

_LISTS = tuple(
    f"{'memory' if name == 'fact' else 'tool_memory' if name == 'tool' else name}_detail_list"
    for name in CATEGORIES
)
_VIEWS = ("detail_factual", "preference", "tool_memory", "skill", "profile", "event")
_MESSAGES = {
    40000: "bad parameters",
    40001: "requested data does not exist",
    40002: "required field is empty",
    40010: "user id is too long",
    40100: "API key required",
    40103: "API key invalid or expired",
    40132: "API key invalid, expired or of another project",
    40300: "call limit exceeded",
    40304: "total calls of the account used up",
    40305: "request too long",
    40306: "no right to delete this memory",
    40307: "memory to delete does not exist",
    40308: "user or agent does not exist",
    50000: "internal error",
}
_REFUSED_FIELDS = frozenset({"conversation_id", "knowledgebase_id", "filter", "memory_type"})
_MAX_PAGE_SIZE = 50
_DEFAULT_PAGE_SIZE = 10
_MAX_RECALL = 25
_MAX_USER_ID = 100


@dataclass(slots=True, kw_only=True)
class Settings:
    """What is not documented, or differs between servers.

    Attributes:
        unknown_id_policy: For a batch with unknown ids: `all_or_nothing` answers 40307 and deletes
            none, `partial` answers 40307 and deletes the known ones, `accept` answers success.
        soft_delete: A deleted memory stays readable by id, with status `deleted`.
        errors_as_http: Failures come with HTTP 400, 401, 403, 404 or 500 instead of 200.
        max_ids: Most ids a call; more are answered 40305. None without limit.
        unknown_user: Answer 40308 for a purge of a user never seen; else success.
        latency_s: Seconds before each answer.
        jitter_s: Up to so many seconds more, by chance.
    """

    unknown_id_policy: Literal["all_or_nothing", "partial", "accept"] = "all_or_nothing"
    soft_delete: bool = False
    errors_as_http: bool = False
    max_ids: int | None = None
    unknown_user: bool = True
    latency_s: float = 0.0
    jitter_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Result:
    """An answer before it is encoded, with what the journal wants to know."""

    code: int = 0
    data: object = None
    kind: str = ""
    ids: tuple[str, ...] = ()
    applied: int = 0

    def to_json(self) -> dict[str, object]:
        """Give the envelope of the Cloud."""
        message = "ok" if self.code == 0 else _MESSAGES.get(self.code, "failed")
        return {"code": self.code, "message": message, "data": self.data}


def refusal(code: int, *, kind: str = "", ids: tuple[str, ...] = (), applied: int = 0) -> Result:
    """Build a failing answer."""
    return Result(code=code, kind=kind, ids=ids, applied=applied)


class Rules:
    """The endpoints of one simulator."""

    def __init__(self, settings: Settings, projects: dict[str, Project]) -> None:
        """Take the settings and the projects by API key."""
        self.settings = settings
        self._projects = projects

    def delete(
        self, project: Project, body: object, *, now: float, delay_s: float, effect: Effect
    ) -> Result:
        """Answer `POST delete/memory`: exactly one of memory_ids, user_id, agent_id.

        Args:
            project: The project of the key.
            body: The parsed body.
            now: Monotonic seconds.
            delay_s: Seconds until the deletion shows.
            effect: What is deleted of it; the answer is the same.
        """
        named = _one_of(body, ("memory_ids", "user_id", "agent_id"))
        if isinstance(named, Result):
            return named
        field, value = named
        if field == "memory_ids":
            ids = _ids(value)
            if isinstance(ids, Result):
                return ids
            return self._delete_ids(project, ids, now=now, delay_s=delay_s, effect=effect)
        owner = _owner(field, value)
        if isinstance(owner, Result):
            return owner
        kind, name = owner
        if owner not in project.owners and self.settings.unknown_user:
            return refusal(40308, kind=kind, ids=(name,))
        applied = _delete(project, project.of(owner), effect, now=now, delay_s=delay_s)
        return Result(data={"success": True}, kind=kind, ids=(name,), applied=applied)

    def _delete_ids(
        self, project: Project, ids: tuple[str, ...], *, now: float, delay_s: float, effect: Effect
    ) -> Result:
        if self.settings.max_ids is not None and len(ids) > self.settings.max_ids:
            return refusal(40305, kind="memories", ids=ids)
        policy = self.settings.unknown_id_policy
        unknown = [memory_id for memory_id in ids if project.alive(memory_id) is None]
        foreign = unknown and any(
            other.alive(memory_id) is not None
            for other in self._projects.values()
            if other is not project
            for memory_id in unknown
        )
        if foreign:
            return refusal(40306, kind="memories", ids=ids)
        if unknown and policy == "all_or_nothing":
            return refusal(40307, kind="memories", ids=ids)
        applied = _delete(project, ids, effect, now=now, delay_s=delay_s)
        if unknown and policy == "partial":
            return refusal(40307, kind="memories", ids=ids, applied=applied)
        return Result(data={"success": True}, kind="memories", ids=ids, applied=applied)

    def list(self, project: Project, body: object) -> Result:
        """Answer `POST get/memory`: newest first, *size* items of each category."""
        named = _one_of(body, ("user_id", "agent_id"))
        if isinstance(named, Result):
            return named
        owner = _owner(*named)
        if isinstance(owner, Result):
            return owner
        assert isinstance(body, dict)  # noqa: S101  # _one_of has seen to it
        page, size = body.get("page", 1), body.get("size", _DEFAULT_PAGE_SIZE)
        views = body.get("include_memory_view", list(_VIEWS))
        if not _is_count(page) or not _is_count(size) or not isinstance(views, list):
            return refusal(40000)
        if page < 1 or not 1 <= size <= _MAX_PAGE_SIZE or not set(views) <= set(_VIEWS):
            return refusal(40000)
        shelves = _by_category(reversed(project.of(owner).values()))
        first = (page - 1) * size
        data: dict[str, object] = {
            name: [_item(memory) for memory in shelf[first : first + size]] if view in views else []
            for name, view, shelf in zip(_LISTS, _VIEWS, shelves, strict=True)
        }
        # The Cloud's `total` is the largest category, not the sum.
        total = max(len(shelf) for shelf in shelves)
        data |= {"total": total, "size": size, "current": page, "pages": -(-total // size)}
        return Result(data=data, kind=owner[0], ids=(owner[1],))

    def read(self, project: Project, memory_id: str) -> Result:
        """Answer `GET get/memory/{id}`."""
        memory = project.alive(memory_id)
        if memory is not None:
            return Result(data=_item(memory), kind="memories", ids=(memory_id,))
        gone = project.memories.get(memory_id)
        if gone is not None and self.settings.soft_delete:
            data = _item(gone) | {"status": "deleted"}
            return Result(data=data, kind="memories", ids=(memory_id,))
        return refusal(40001, kind="memories", ids=(memory_id,))

    def search(self, project: Project, body: object) -> Result:
        """Answer `POST search/memory`: at most 25 items whose text holds the query."""
        named = _one_of(body, ("user_id", "agent_id"))
        if isinstance(named, Result):
            return named
        owner = _owner(*named)
        if isinstance(owner, Result):
            return owner
        assert isinstance(body, dict)  # noqa: S101  # _one_of has seen to it
        query = body.get("query")
        if not isinstance(query, str) or not query:
            return refusal(40002)
        items = [_item(memory) for memory in reversed(project.of(owner).values())]
        hits = [item for item in items if query in str(item["content"])][:_MAX_RECALL]
        data = {
            name: [item for item in hits if item["memory_view"] == view]
            for name, view in zip(_LISTS, _VIEWS, strict=True)
        }
        return Result(data=data, kind=owner[0], ids=(owner[1],))


def _delete(
    project: Project, ids: Iterable[str], effect: Effect, *, now: float, delay_s: float
) -> int:
    """Delete as much as *effect* says; return how many."""
    ids = list(ids)
    if effect == "none":
        return 0
    if effect == "half":
        ids = ids[::2]
    elif effect == "wider":
        owners = {memory.owner for one in ids if (memory := project.alive(one)) is not None}
        ids = [one for owner in owners for one in project.of(owner)]
    return project.delete(ids, now=now, delay_s=delay_s)


def _one_of(body: object, fields: tuple[str, ...]) -> tuple[str, object] | Result:
    """Give the one member of *fields* that *body* has, or the refusal.

    Extra members such as `source` and the former `user_ids` pass, as first-party clients send them.
    """
    if not isinstance(body, dict):
        return refusal(40000)
    present = [name for name in fields if name in body]
    if not present:
        return refusal(40002)
    if len(present) > 1 or ("memory_ids" in fields and _REFUSED_FIELDS & body.keys()):
        return refusal(40000)
    return present[0], body[present[0]]


def _ids(value: object) -> tuple[str, ...] | Result:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return refusal(40000)
    return tuple(value) if value and all(value) else refusal(40002)


def _owner(field: str, value: object) -> Owner | Result:
    if not isinstance(value, str):
        return refusal(40000)
    if not value:
        return refusal(40002)
    if len(value) > _MAX_USER_ID:
        return refusal(40010)
    return ("user", value) if field == "user_id" else ("agent", value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _by_category(memories: Iterable[Memory]) -> list[list[Memory]]:
    shelves: list[list[Memory]] = [[] for _ in CATEGORIES]
    for memory in memories:
        shelves[memory.category].append(memory)
    return shelves


def _item(memory: Memory) -> dict[str, object]:
    kind, name = memory.owner
    return {
        "id": memory.id,
        "memory_view": _VIEWS[memory.category],
        "title": "made-up memory",
        "content": f"made-up {CATEGORIES[memory.category]} of minute {memory.created_ms // 60_000}",
        "status": "activated",
        "create_time": memory.created_ms,
        "update_time": memory.created_ms,
        "user_id": name if kind == "user" else None,
        "agent_id": name if kind == "agent" else None,
        "tags": [],
        "info": {},
    }
