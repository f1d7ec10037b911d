"""The lists in answers of the Cloud: a page of everything, and the hits of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memos_api.simulator.documents import VIEWS, cloud_item, drop_an_id, text_of
from memos_api.simulator.lies import Lie
from memos_api.simulator.memory import CATEGORIES, Memory
from memos_api.simulator.paging import take_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["page_of", "search_of"]

_NAMES = tuple(
    f"{'memory' if name == 'fact' else 'tool_memory' if name == 'tool' else name}_detail_list"
    for name in CATEGORIES
)
_SKILL = CATEGORIES.index("skill")
_MAX_RECALL = 25


def page_of(
    memories: Iterable[Memory], *, page: int, size: int, views: Sequence[str], lies: Sequence[Lie]
) -> dict[str, object]:
    """Give `data` of a list.

    Args:
        memories: All there are, newest first.
        page: From 1.
        size: Items a page, of each category.
        views: Categories asked for; of the others the list is empty.
        lies: In force.
    """
    shelves = _by_category(memories, views)
    hidden = _hidden(views, lies)
    lists = {
        name: [cloud_item(one, lies) for one in take_page(shelf, page=page, size=size, lies=lies)]
        for number, (name, shelf) in enumerate(zip(_NAMES, shelves, strict=True))
        if number != hidden
    }
    if Lie.MALFORMED_ITEM in lies:
        drop_an_id(lists.values())
    # The Cloud's `total` is the largest category, not the sum.
    total = max(len(shelf) for number, shelf in enumerate(shelves) if number != hidden)
    pages = -(-total // size)
    if Lie.WRONG_TOTALS in lies:
        total, pages = 0, 1
    data: dict[str, object] = dict(lists)
    if Lie.NULL_CATEGORIES in lies:
        data = {name: items or None for name, items in lists.items()}
    current = page + 1 if Lie.LIST_OTHER_PAGE in lies else page
    return data | {"total": total, "size": size, "current": current, "pages": pages}


def search_of(
    memories: Iterable[Memory], *, query: str | None, lies: Sequence[Lie]
) -> dict[str, object]:
    """Give `data` of a search.

    Args:
        memories: All that may be found, newest first.
        query: What their text must hold; None finds them all.
        lies: In force.
    """
    hits = [one for one in memories if query is None or query in text_of(one)][:_MAX_RECALL]
    shelves = _by_category(hits, VIEWS)
    return {
        name: [cloud_item(one, lies) for one in shelf]
        for name, shelf in zip(_NAMES, shelves, strict=True)
    }


def _hidden(views: Sequence[str], lies: Sequence[Lie]) -> int | None:
    together = Lie.HIDES_CATEGORY_TOGETHER in lies and set(views) != {VIEWS[_SKILL]}
    return _SKILL if together or Lie.HIDES_CATEGORY in lies else None


def _by_category(memories: Iterable[Memory], views: Sequence[str]) -> list[list[Memory]]:
    shelves: list[list[Memory]] = [[] for _ in CATEGORIES]
    for memory in memories:
        if VIEWS[memory.category] in views:
            shelves[memory.category].append(memory)
    return shelves
