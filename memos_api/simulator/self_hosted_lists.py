"""The lists in answers of a self-hosted server: a cube by kinds, and the hits of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memos_api.simulator.documents import drop_an_id, self_hosted_item, text_of
from memos_api.simulator.lies import Lie
from memos_api.simulator.memory import CATEGORIES, DEFAULT_CUBE, Memory, Owner, newest_first
from memos_api.simulator.paging import take_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memos_api.simulator.settings import Settings
    from memos_api.simulator.state import Project

__all__ = ["cube_of", "search_of"]

_KINDS = ("text_mem", "pref_mem", "tool_mem", "skill_mem")
_KIND_OF = {"preference": "pref_mem", "tool": "tool_mem", "skill": "skill_mem"}
_SWITCHES = {
    "pref_mem": "include_preference",
    "tool_mem": "include_tool_memory",
    "skill_mem": "include_skill_memory",
}
_DEFAULT_RELATIVITY = 0.45
_DEFAULT_TOP_K = 10


def cube_of(project: Project, body: dict[str, Any], settings: Settings) -> dict[str, object]:
    """Give `data` of a list of one cube.

    On Postgres page, page_size, filter and user_id are ignored, and all kinds hold the same.

    Args:
        project: Whose memories.
        body: The request, known to be valid.
        settings: With the backend and the lies in force.
    """
    lies, honest = settings.lies, settings.backend == "honest"
    cube, user = body["mem_cube_id"], body.get("user_id")
    owner: Owner | None = None
    if honest and user is not None and Lie.IGNORES_USER not in lies:
        owner = ("user", user)
    there = [
        memory
        for memory in project.listed(owner)
        if memory.cube == cube and not (Lie.HIDES_CATEGORY in lies and _kind(memory) == "skill_mem")
    ]
    memories: dict[str, list[dict[str, object]]] = {}
    totals: dict[str, int] = {}
    for kind in _KINDS:
        if not body.get(_SWITCHES.get(kind, ""), True):
            continue
        held = [memory for memory in there if not honest or _kind(memory) == kind]
        totals[kind] = 0 if Lie.WRONG_TOTALS in lies else len(held)
        page = _page(held, body, lies) if honest else held
        memories[kind] = [self_hosted_item(memory, lies) for memory in page]
    if Lie.MALFORMED_ITEM in lies:
        drop_an_id(memories.values())
    data: dict[str, object] = {kind: [] for kind in _KINDS}
    for kind, items in memories.items():
        bucket = [{"cube_id": cube, "memories": items, "total_nodes": totals[kind]}]
        data[kind] = None if Lie.NULL_CATEGORIES in lies and not items else bucket
    if Lie.HIDES_CATEGORY in lies:
        del data["skill_mem"]
    return data


def search_of(project: Project, body: dict[str, Any], settings: Settings) -> dict[str, object]:
    """Give `data` of a search: on Postgres only what the lie `vectors_left` left.

    Args:
        project: Whose memories.
        body: The request, known to be valid.
        settings: With the backend and the lies in force.
    """
    cubes = body.get("readable_cube_ids") or []
    anything = body.get("relativity", _DEFAULT_RELATIVITY) == 0
    hits = [
        memory
        for memory in _findable(project, body["user_id"], settings)
        if (anything or body["query"] in text_of(memory)) and (not cubes or memory.cube in cubes)
    ][: body.get("top_k", _DEFAULT_TOP_K)]
    data: dict[str, object] = {"act_mem": [], "para_mem": [], "pref_note": ""}
    for kind in _KINDS:
        held = [self_hosted_item(one, settings.lies) for one in hits if _kind(one) == kind]
        cube = cubes[0] if cubes else DEFAULT_CUBE
        data[kind] = [{"cube_id": cube, "memories": held, "total_nodes": len(held)}]
    return data


def _findable(project: Project, user: str, settings: Settings) -> list[Memory]:
    if settings.database_down:
        return []
    if settings.backend == "honest":
        return project.searchable(("user", user))
    return newest_first(project.vectors.get(("user", user), {}).values())


def _page(held: list[Memory], body: dict[str, Any], lies: Sequence[Lie]) -> list[Memory]:
    page, size = body.get("page"), body.get("page_size")
    if page is None or size is None:
        # It exports all; as one page, so that the lies about pages apply to it.
        page, size = 1, max(1, len(held))
    return take_page(held, page=max(1, page), size=max(1, size), lies=lies)


def _kind(memory: Memory) -> str:
    return _KIND_OF.get(CATEGORIES[memory.category], "text_mem")
