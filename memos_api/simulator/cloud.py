"""The documented contract of the Cloud: what each endpoint takes and answers.

Sources: the Cloud's pages for `delete/memory`, `get/memory` and `search/memory` and its error
codes. What is documented nowhere (ids a call, partly unknown batches, the answer for a deleted
memory) is a setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memos_api.simulator.cloud_lists import page_of, search_of
from memos_api.simulator.deleting import carry_out
from memos_api.simulator.documents import VIEWS, another, cloud_document
from memos_api.simulator.lies import Lie
from memos_api.simulator.result import Result, refusal

if TYPE_CHECKING:
    from memos_api.simulator.deleting import Course
    from memos_api.simulator.memory import Owner
    from memos_api.simulator.settings import Settings
    from memos_api.simulator.state import Project

__all__ = ["Cloud"]

_REFUSED_FIELDS = frozenset({"conversation_id", "knowledgebase_id", "filter", "memory_type"})
_MAX_PAGE = 1_000_000_000
_MAX_PAGE_SIZE = 50
_DEFAULT_PAGE_SIZE = 10
_DEFAULT_RELATIVITY = 0.45
_MAX_USER_ID = 100
_SUCCESS: dict[str, object] = {"success": True}


class Cloud:
    """The endpoints of the Cloud."""

    def __init__(self, settings: Settings, projects: dict[str, Project]) -> None:
        """Take the settings and the projects by API key."""
        self._settings = settings
        self._projects = projects

    def delete(self, project: Project, body: object, course: Course) -> Result:
        """Answer `POST delete/memory`: exactly one of memory_ids, user_id, agent_id."""
        named = _one_of(body, ("memory_ids", "user_id", "agent_id"))
        if isinstance(named, Result):
            return named
        field, value = named
        if field == "memory_ids":
            ids = _ids(value)
            return ids if isinstance(ids, Result) else self._delete_ids(project, ids, course)
        owner = _owner(field, value)
        if isinstance(owner, Result):
            return owner
        kind, name = owner
        if self._settings.database_down:
            return Result(data=_SUCCESS, kind=kind, ids=(name,))
        if owner not in project.owners and self._settings.unknown_user:
            return refusal(40308, kind=kind, ids=(name,))
        applied = carry_out(project, project.of(owner), course, self._settings, purge=True)
        return self._said(kind, (name,), applied)

    def _delete_ids(self, project: Project, ids: tuple[str, ...], course: Course) -> Result:
        settings = self._settings
        if settings.max_ids is not None and len(ids) > settings.max_ids:
            return refusal(40305, kind="memories", ids=ids)
        if settings.database_down:
            return Result(data=_SUCCESS, kind="memories", ids=ids)
        unknown = [memory_id for memory_id in ids if project.alive(memory_id) is None]
        foreign = unknown and any(
            other.alive(memory_id) is not None
            for other in self._projects.values()
            if other is not project
            for memory_id in unknown
        )
        if foreign:
            return refusal(40306, kind="memories", ids=ids)
        if unknown and settings.unknown_id_policy == "all_or_nothing":
            return refusal(40307, kind="memories", ids=ids)
        applied = carry_out(project, ids, course, settings)
        if unknown and settings.unknown_id_policy == "partial":
            return refusal(40307, kind="memories", ids=ids, applied=applied)
        return self._said("memories", ids, applied)

    def _said(self, kind: str, ids: tuple[str, ...], applied: int) -> Result:
        """Answer success, or what the lies in force say instead."""
        lies = self._settings.lies
        code, data = 0, _SUCCESS
        if Lie.NOT_FOUND_THOUGH_THERE in lies:
            code, data = 40307 if kind == "memories" else 40308, {}
        elif Lie.REFUSED_THOUGH_GONE in lies:
            code, data = 40306, {}
        elif Lie.SUCCESS_FALSE in lies or Lie.SUCCESS_FALSE_THOUGH_GONE in lies:
            data = {"success": False}
        elif Lie.CODE_FAILS_SUCCESS_TRUE in lies:
            code = 50002
        elif Lie.SUCCESS_AS_TEXT in lies:
            data = {"success": "true"}
        return Result(code=code, data=data or None, kind=kind, ids=ids, applied=applied)

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
        views = body.get("include_memory_view", list(VIEWS))
        if not (
            _is_count(page, _MAX_PAGE) and _is_count(size, _MAX_PAGE_SIZE) and _is_views(views)
        ):
            return refusal(40000)
        kind, name = owner
        if self._settings.database_down:
            return refusal(50004, kind=kind, ids=(name,), http_status=500)
        lies = self._settings.lies
        if Lie.EMPTY_LIST_202 in lies:
            return Result(bodiless=True, http_status=202, kind=kind, ids=(name,))
        memories = project.listed(None if Lie.IGNORES_USER in lies else owner)
        data = page_of(memories, page=page, size=size, views=views, lies=lies)
        return Result(data=data, kind=kind, ids=(name,))

    def read(self, project: Project, memory_id: str) -> Result:
        """Answer `GET get/memory/{id}`."""
        settings = self._settings
        memory = project.shown(memory_id)
        if memory is not None and Lie.OTHER_ID in settings.lies:
            memory = another(project, memory)
        if settings.database_down or Lie.BY_ID_BLIND in settings.lies:
            return refusal(40001, kind="memories", ids=(memory_id,))
        if memory is not None:
            data = cloud_document(memory, settings.lies)
            return Result(data=data, kind="memories", ids=(memory_id,))
        gone = project.memories.get(memory_id)
        if gone is not None and gone.gone_at is not None and settings.soft_delete:
            data = cloud_document(gone, settings.lies) | {"status": "deleted"}
            return Result(data=data, kind="memories", ids=(memory_id,))
        return refusal(40001, kind="memories", ids=(memory_id,))

    def search(self, project: Project, body: object) -> Result:
        """Answer `POST search/memory`: at most 25 items whose text holds the query.

        With `relativity` 0 the threshold is off, and every memory of the owner is a hit.
        """
        named = _one_of(body, ("user_id", "agent_id"))
        if isinstance(named, Result):
            return named
        owner = _owner(*named)
        if isinstance(owner, Result):
            return owner
        assert isinstance(body, dict)  # noqa: S101  # _one_of has seen to it
        query, relativity = body.get("query"), body.get("relativity", _DEFAULT_RELATIVITY)
        if not isinstance(query, str) or not query:
            return refusal(40002)
        if not isinstance(relativity, int | float) or isinstance(relativity, bool):
            return refusal(40000)
        kind, name = owner
        if self._settings.database_down:
            return refusal(50005, kind=kind, ids=(name,), http_status=500)
        data = search_of(
            project.searchable(owner),
            query=None if relativity == 0 else query,
            lies=self._settings.lies,
        )
        return Result(data=data, kind=kind, ids=(name,))


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


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_views(value: object) -> bool:
    return isinstance(value, list) and all(view in VIEWS for view in value)
